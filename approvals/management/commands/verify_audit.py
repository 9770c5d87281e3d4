from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals import audit


class Command(BaseCommand):
    help = "Walk the audit chain and say whether every entry fits the one before."

    def handle(self, *args: Any, **options: Any) -> None:
        found = audit.verify()
        if not found.ok:
            raise CommandError(f"Entry {found.first_bad} does not fit; {found.entries} before it do.")
        self.stdout.write(f"{found.entries} entries, all fit. Head: {found.head or 'none'}")
