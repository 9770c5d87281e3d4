from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.text.visible import one_line
from orchestration import webhook_gateway, webhook_secrets
from orchestration.errors import NoSuchService, SecretsAsTheyAre
from orchestration.webhook_secrets import Keyring


class Command(BaseCommand):
    help = (
        "Print what webhooks are signed with; their receivers verify them with it, as Standard Webhooks say. With the "
        "name of a service account: list its own secrets, --new makes one more and prints it, alone on the last line, "
        "once; --retire ENDING has one used no more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", nargs="?", default="", help="a service account's name; without it, the shared")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--new", action="store_true", help="make one more; two are valid at most")
        which.add_argument("--retire", metavar="ENDING", default="", help="the last characters of the one to retire")

    def handle(self, *args: Any, **options: Any) -> None:
        name, ending = options["account"], options["retire"].removeprefix("…").rstrip("=")
        if not name:
            if options["new"] or ending:
                raise CommandError("Name the service account whose secret it is.")
            self.stdout.write(webhook_gateway.secret())
            return
        try:
            self._of_account(name, options["new"], ending)
        except (NoSuchService, SecretsAsTheyAre) as exc:
            raise CommandError(one_line(exc.sentence)) from None

    def _of_account(self, name: str, new: bool, ending: str) -> None:
        found = User.objects.filter(username=name).first()
        if found is None:
            raise CommandError(one_line(f"There is no account {name!r}."))
        account = webhook_secrets.service_of(found.pk)
        if new:
            made = webhook_secrets.create(account=account, by=None)
            self._tell(webhook_secrets.keyring_of(account))
            self.stdout.write("The new one, which is not shown again:")
            self.stdout.write(made.secret)
            return
        if ending:
            valid = webhook_secrets.keyring_of(account).valid
            one = next((row for row in valid if ending.endswith(row.ending) or row.ending.endswith(ending)), None)
            if one is None:
                raise CommandError(one_line(f"{name} has no valid secret that ends with {ending[-10:]!r}."))
            webhook_secrets.retire(secret_id=one.pk, by=None)
        self._tell(webhook_secrets.keyring_of(account))

    def _tell(self, keyring: Keyring) -> None:
        name = keyring.account.username
        if not keyring.valid:
            self.stdout.write(f"Answers to {name} are signed with the installation's secret: manage.py webhook_secret")
        for one in keyring.valid:
            whose = "the installation's" if one.is_shared else "its own"
            lost = " (cannot be made any more: Django's key has changed)" if one.pk in keyring.lost else ""
            secret = f"the secret that ends with {one.ending}, {whose}{lost}"
            self.stdout.write(f"Answers to {name} are signed with {secret}.")
