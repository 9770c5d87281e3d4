from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from console import tokens


class Command(BaseCommand):
    help = "Revoke all of a user's tokens for the JSON API, at once and for good."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = User.objects.filter(username=options["username"]).first()
        if owner is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        self.stdout.write(f"Revoked: {tokens.revoke_tokens(owner=owner)}")
