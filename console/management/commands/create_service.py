from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, transaction

from console import tokens
from console.text.visible import one_line


class Command(BaseCommand):
    help = "Make an account with the role service for a program; print its token, alone on the last line, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--label", default="", help="what the token is for")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["name"]
        account = User(username=name)
        account.set_unusable_password()  # a program has a token; nobody signs in as it
        try:
            account.clean_fields(exclude=["password"])
            with transaction.atomic():
                account.save()
                account.groups.add(Group.objects.get_or_create(name="service")[0])
                token = tokens.create_token(owner=account, label=options["label"])
        except ValidationError as exc:
            raise CommandError(one_line(f"No account can be called {name!r}: {' '.join(exc.messages)}")) from None
        except IntegrityError:
            raise CommandError(one_line(_there_already(name))) from None
        self.stdout.write(f"What answers to its webhooks are signed with: manage.py webhook_secret {name} --new")
        self.stdout.write(f"{name} has the role service. Its token, which is not shown again:")
        self.stdout.write(token)


def _there_already(name: str) -> str:
    found = User.objects.get(username=name)
    if not found.groups.filter(name="service").exists():
        return f"There is an account {name!r} already, and it is no service. Choose another name."
    if not found.is_active:
        return f"The service {name!r} exists already and is disabled. An admin enables it at /admin/."
    return f"The service {name!r} exists already. For another token: manage.py create_token {name}"
