from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from console import tokens
from console.text.visible import one_line


class Command(BaseCommand):
    help = "Make a token for the JSON API and print it, alone on the last line. It cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--label", default="", help="what the token is for")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            owner = User.objects.get(username=options["username"], is_active=True)
        except User.DoesNotExist:
            known = ", ".join(
                User.objects.filter(is_active=True).order_by("username").values_list("username", flat=True)[:20]
            )
            words = f"There is no active user {options['username']!r}. Users: {known or 'none yet'}"
            raise CommandError(one_line(words)) from None
        self.stdout.write(tokens.create_token(owner=owner, label=options["label"]))
