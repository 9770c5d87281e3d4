"""How well versions answer the questions whose passage is known: `manage.py measure_search [NAME] [--number N]`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from dataplane import measuring, selectors
from dataplane.errors import DataplaneError
from dataplane.search_figures import row_of


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Ask a version of a dataset the questions of its handbook, and print recall@5 for each way of searching."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", default="handbook", help="of the dataset; left out: handbook")
        parser.add_argument("--number", type=int, help="left out: the current one")
        parser.add_argument("--missed", action="store_true", help="print the questions that were not answered too")

    def handle(self, *args: Any, **options: Any) -> None:
        name, number = options["name"], options["number"]
        try:
            version = selectors.current_version(name) if number is None else selectors.version(name, number)
            done = measuring.measure(version, user=None)
        except DataplaneError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{name} version {version.version}, {version.rows:,} passages, {version.embedder}")
        for figures in done:
            self.stdout.write("  ".join(f"{label}: {words}" for label, words in row_of(figures).items()))
            for one in figures.missed if options["missed"] else ():
                self.stdout.write(f"  missed: {one['ask']}\n    wanted {', '.join(one['wanted'])}")
                self.stdout.write(f"    found  {'; '.join(one['found'])}")
