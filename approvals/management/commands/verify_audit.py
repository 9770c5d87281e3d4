from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals.reading import record
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

        parser.add_argument(
            "--processes", type=int, metavar="NUMBER", help="to share it; one for each core when not given"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Exit with 1 when an entry does not fit or an outside head is missing."""
        path: Path | None = options["heads"]
        if path is not None and not path.exists():
            raise CommandError(f"There is no file {path}.")
        began = time.monotonic()
        outside = [*heads.kept(path), *(Head(digest) for digest in options["head"])]
        found = record.check_whole(outside, processes=options["processes"] or _processes())
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


def _processes() -> int:
    """Return one for each core where the record is long enough to be worth their start."""
    return os.cpu_count() or 1 if audit.newest_number() > record.AT_ONCE else 1
