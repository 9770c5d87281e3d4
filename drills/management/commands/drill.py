from __future__ import annotations

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from console.drill_results import FAILURE_TESTS
from console.environment import environment
from console.models import DrillResult
from docs import measuring
from drills.errors import DrillError
from drills.running import FAILURES, ONLY_BY_NAME, Report, run
from drills.trials import Outcome
from stack.errors import StackError

_SENTENCES = {test.name: test.invariant for test in FAILURE_TESTS}


class Command(BaseCommand):
    help = "Inject failures into a stack of its own and check what must hold; non-zero on any violation."
    requires_system_checks = ()  # it looks at a stack of its own, from outside

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name", nargs="?", choices=sorted(FAILURES), help="only this failure; else all but the longest"
        )
        parser.add_argument("--trials", type=int, default=3, help="of every fault (default 3)")
        parser.add_argument("--keep", action="store_true", help="keep the state folder: logs and history.jsonl")
        parser.add_argument("--record", action="store_true", help="keep the result in docs/measured/ for the documents")
        parser.add_argument("--json", metavar="FILE", help="write the result there as well")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, print the table, store the results beside, and say by the status whether all held."""
        if options["trials"] < 1:
            raise CommandError("At least one trial.")
        names = [options["name"]] if options["name"] else [name for name in FAILURES if name not in ONLY_BY_NAME]
        home = Path(tempfile.mkdtemp(prefix="signalbox-drill-"))
        try:
            report = _until_told_to_stop(run(home, names, options["trials"], self._say, self._heard))
        except (StackError, DrillError) as error:
            options["keep"] = True
            raise CommandError(f"The drill's own stack failed: {error}") from error
        finally:
            if options["keep"]:
                self._say(f"Kept: {home}")
            else:
                shutil.rmtree(home, ignore_errors=True)
        self._print_table(report)
        if options["record"]:
            self._record(report, options["name"] or "", options["trials"])
        if options["json"]:
            Path(options["json"]).write_text(json.dumps(report.as_json(), indent=1) + "\n")
        self._store(report)
        if report.violations:
            raise CommandError(f"{report.violations} trials violated an invariant.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _heard(self, outcome: Outcome) -> None:
        mark = "ok " if not outcome.violations else "BAD"
        self._say(f"  {mark} {outcome.fault}: {len(outcome.trials)} trials, {outcome.violations} violations")
        for sentence in outcome.seen:
            self._say(f"        {sentence}")

    def _print_table(self, report: Report) -> None:
        rows = [("invariant", "trials", "violations")]
        for outcome in report.of("checker"):
            rows.append((f"checker: {outcome.invariant}", str(len(outcome.trials)), str(outcome.violations)))
        for name in FAILURES:
            outcomes = report.of(name)
            if not outcomes:
                continue
            rows += [(f"  {one.fault}: {one.invariant}", str(len(one.trials)), str(one.violations)) for one in outcomes]
            total = sum(len(one.trials) for one in outcomes), sum(one.violations for one in outcomes)
            rows.append((f"{name}: {_SENTENCES.get(name, 'as same-refresh')}", str(total[0]), str(total[1])))
        width = max(len(row[0]) for row in rows)
        self._say("")
        for what, trials, violations in rows:
            self._say(f"{what:<{width}}  {trials:>6}  {violations:>10}")
        self._say("")

    def _record(self, report: Report, name: str, trials: int) -> None:
        command = " ".join(filter(None, ("manage.py drill", name, f"--trials {trials}")))
        for failure, faults in report.as_json()["failures"].items():
            if failure in FAILURES:  # the checker's own test is none
                kept = [{key: one[key] for key in ("fault", "invariant", "trials", "violations")} for one in faults]
                measuring.record("drill", failure, command, faults=kept)
        call_command("write_docs")

    def _store(self, report: Report) -> None:
        """Keep each failure's result in the database that this command was started beside, if it answers."""
        if not _answers(environment().database_url):
            self._say("No database answers beside this command, so the result was only printed.")
            return
        try:
            for name, outcomes in report.as_json()["failures"].items():
                if name not in _SENTENCES:
                    continue
                DrillResult.objects.create(
                    name=name,
                    trials=sum(one["trials"] for one in outcomes),
                    failures=sum(one["violations"] for one in outcomes),
                    detail={"faults": outcomes, "seconds": report.seconds.get(name)},
                )
        except Error as error:
            self._say(f"The database beside this command has no place for it; only printed ({error}).")
        else:
            self._say("The result is stored; the System page shows it.")


def _answers(database_url: str) -> bool:
    try:
        psycopg.connect(database_url or "host=127.0.0.1", connect_timeout=2).close()
    except psycopg.Error:
        return False
    return bool(database_url)


def _until_told_to_stop(work: Coroutine[Any, Any, Report]) -> Report:
    """Run it; SIGTERM ends it as Ctrl-C does, with its stack."""

    async def main() -> Report:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    return asyncio.run(main())
