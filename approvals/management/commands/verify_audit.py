from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals.record import audit, heads
from approvals.record.audit import Head
from console import app_role


class Command(BaseCommand):
    help = "Walk the audit chain and say whether every entry fits, and whether the heads kept outside are in it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--heads", type=Path, metavar="FILE", help="heads to compare with; the state folder's when not given"
        )
        parser.add_argument(
            "--head", action="append", default=[], metavar="DIGEST", help="a single head kept elsewhere; repeatable"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit with 1 when an entry does not fit or an outside head is missing."""
        path: Path | None = options["heads"]
        if path is not None and not path.exists():
            raise CommandError(f"There is no file {path}.")
        began = time.monotonic()
        found = audit.verify([*heads.kept(path), *(Head(digest) for digest in options["head"])])
        if not found.ok:
            raise CommandError(found.sentence)
        self.stdout.write(f"{found.sentence} It took {time.monotonic() - began:.1f} s.")
        if found.gaps:
            self.stdout.write(
                f"{found.gaps:,} numbers are not used: a change that was taken back leaves its number behind. "
                "That is no fault; the chain is whole across them."
            )
        if loose := app_role.loose_record():
            self.stdout.write(loose)
        self.stdout.write(f"Head: {found.head or 'none'}")
