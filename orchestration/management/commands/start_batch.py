from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.text.visible import one_line
from orchestration.agents.arguments import input_schema_of
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.batches import starting
from orchestration.batches.tables import NoTable, decoded, read_table
from orchestration.errors import BatchKeyReused, InvalidInput

FAULTS_SHOWN = 20


class Command(BaseCommand):
    help = "Start a batch of an agent's runs from a table: CSV or JSON lines, in a file or on the standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent", help="the agent's name")
        parser.add_argument("table", help="a file, or - for the standard input")
        parser.add_argument("--as", dest="username", required=True, metavar="NAME", help="whose batch it is")
        parser.add_argument("--key", required=True, help="the same key with the same rows starts nothing twice")
        parser.add_argument("--active", type=int, default=starting.ACTIVE, help="runs at work at the same time")
        parser.add_argument("--open-approvals", type=int, default=starting.OPEN_APPROVALS)
        parser.add_argument("--check", action="store_true", help="say what the table is, and start nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the batch's id alone on the last line; end with 1 and a line for each fault when a row is wrong."""
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no account {one_line(options['username'])!r}.")
        try:
            schema = input_schema_of(agent_named(options["agent"]))
            raw = sys.stdin.buffer.read() if options["table"] == "-" else Path(options["table"]).read_bytes()
            rows = read_table(decoded(raw), schema)
            checked = starting.check(options["agent"], rows)
        except (UnknownAgent, NoTable, InvalidInput, OSError) as exc:
            raise CommandError(one_line(str(exc))) from exc
        words = f"{checked.total:,} rows, {checked.wrong:,} wrong, {len(checked.same):,} the same as an earlier one"
        self.stderr.write(words)
        if checked.faults:
            shown = checked.faults[:FAULTS_SHOWN]
            told = [f"  row {one.row}, line {one.line}: {one_line(f'{one.path} {one.message}')}" for one in shown]
            raise CommandError("\n".join(["Nothing was started.", *told]))
        if options["check"]:
            return
        try:
            batch, is_new = starting.start_batch(
                agent=options["agent"],
                rows=rows,
                key=options["key"],
                requested_by=user,
                active=options["active"],
                open_approvals=options["open_approvals"],
            )
        except (InvalidInput, BatchKeyReused) as exc:
            raise CommandError(str(exc)) from exc
        self.stderr.write("It is started." if is_new else "It was there already.")
        self.stdout.write(batch.pk)
