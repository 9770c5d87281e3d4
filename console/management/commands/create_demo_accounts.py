from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from console import tokens
from console.roles import Role

CAST: dict[str, list[Role]] = {
    "alice": ["reviewer"],
    "bob": ["reviewer"],
    "olga": ["operator"],
    "ada": ["admin"],
    "eve": [],
    "robot": ["service"],
}


class Command(BaseCommand):
    help = "Make the demo accounts with random passwords and tokens, once; print where they are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--file", type=Path, required=True, help="where they are kept, mode 0600")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        if not path.exists():
            self._create(path)
        self.stdout.write(f"The demo accounts are in {path}")  # no secret: the stack keeps this output in a log

    @transaction.atomic
    def _create(self, path: Path) -> None:
        accounts = []
        for username, roles in CAST.items():
            password = secrets.token_urlsafe(9)
            user, _ = User.objects.get_or_create(username=username, defaults={"email": f"{username}@signalbox.example"})
            user.set_password(password)
            user.save()
            user.groups.set(Group.objects.filter(name__in=roles))
            token = tokens.create_token(owner=user, label="demo")
            accounts.append({"username": username, "password": password, "token": token, "roles": roles})
        with open(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            json.dump(accounts, file, indent=1)
