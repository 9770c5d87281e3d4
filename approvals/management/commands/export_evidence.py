from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals.errors import NoSuchApproval
from approvals.reading.evidence import pack
from console.text.visible import one_line


class Command(BaseCommand):
    help = "Write one archive about an approval, or a run with all its approvals, that finds any byte changed in it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("about", metavar="RUN_OR_APPROVAL", help="the id of a run or of an approval")
        parser.add_argument("--output", type=Path, metavar="FILE.zip", help="when not given: <id>-evidence.zip here")

    def handle(self, *args: Any, **options: Any) -> None:
        about: str = options["about"]
        path = options["output"] or Path(f"{about}-evidence.zip")
        try:
            exported = pack.export(about, path)
        except NoSuchApproval as exc:
            raise CommandError(one_line(str(exc))) from exc
        except OSError as exc:
            raise CommandError(f"{path} cannot be written: {exc}") from exc
        for one in exported.missing:
            self.stdout.write(one_line(f"Not in it: {one['what']}. {one['why']}"))
        self.stdout.write(f"{path} holds {exported.files} files. Unpacked anywhere: python3 verify.py")
        self.stdout.write("The record keeps the digest of its manifest; note it elsewhere too:")
        self.stdout.write(exported.digest)
