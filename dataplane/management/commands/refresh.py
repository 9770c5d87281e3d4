"""Ask for a refresh, or start a job, from a terminal: `manage.py refresh NAME [--key KEY] [--wait] [--dry-run]`."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.text.visible import make_visible
from dataplane import selectors
from dataplane.errors import DataplaneError
from dataplane.models import Refresh
from dataplane.refreshes.request import request_refresh

LOOK_SECONDS = 0.5


class Command(BaseCommand):
    requires_system_checks = ()
    help = "Ask for a refresh of a dataset, or a run of a job; the same key is the same refresh."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="of the dataset or job")
        parser.add_argument("--key", help="which refresh it is; left out: the current window's")
        parser.add_argument("--wait", action="store_true", help="until it has ended; fails unless it ended well")

        parser.add_argument(
            "--dry-run", action="store_true", help="wait, and say what a refresh would change; nothing is published"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        is_dry_run = options["dry_run"]
        try:
            row, is_new = request_refresh(dataset=options["name"], key=options["key"], user=None, is_dry_run=is_dry_run)
        except DataplaneError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"{row.pk} {row.key}: {'asked for' if is_new else f'exists already, {row.status}'}")
        if options["wait"] or is_dry_run:
            self._wait(row.pk)
        if is_dry_run:
            self._tell(selectors.refresh(row.pk).preview or {})

    def _tell(self, preview: dict[str, Any]) -> None:
        """Say what a refresh would change, row by row."""
        for kind, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
            names = preview.get(kind, [])
            for name in names:
                self.stdout.write(f"{sign} {make_visible(name)}")
            if (more := preview.get("counts", {}).get(kind, 0) - len(names)) > 0:
                self.stdout.write(f"{sign} and {more:,} more that are {kind}")
        self.stdout.write(preview.get("sentence", ""))

    def _wait(self, refresh_id: str) -> None:
        """Tell each change until the refresh has ended. Raises CommandError unless it ended well."""
        said = ""
        while True:
            row = selectors.refresh(refresh_id)
            words = _words(row)
            if words != said:
                self.stdout.write(words)
                said = words
            if not row.is_open:
                break
            time.sleep(LOOK_SECONDS)
        if row.status in (Refresh.Status.FAILED, Refresh.Status.CANCELLED):
            raise CommandError(row.error or f"The refresh was {row.status}.")


def _words(row: Refresh) -> str:
    told = [row.status]
    if row.version is not None:
        told.append(f"version {row.version.version}, {row.version.rows} rows")
    if row.note:
        told.append(row.note)
    if row.prefect_flow_run_id:
        told.append(f"flow run {row.prefect_flow_run_id}")
    if row.is_open and row.send_error:
        told.append(row.send_error)
    return ", ".join(told)
