from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from console.environment import PROJECT
from docs import tables


class Command(BaseCommand):
    help = "Write the tables of docs/ and of the README anew, from the settings and from what was measured."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        for page in tables.documents():
            text = page.read_text()
            if (made := tables.with_tables(text)) != text:
                page.write_text(made)
                self.stdout.write(f"{page.relative_to(PROJECT)} is written anew")
