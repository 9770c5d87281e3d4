from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.environment import environment
from console.stack.errors import StackError
from console.stack.supervisor import Supervisor
from console.stack.terminal import Terminal


class Command(BaseCommand):
    help = "Start the whole stack in this terminal: engines, web, worker, relay, flows and the example shop."
    # The parts check themselves; this command must also start when they would not.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--demo", action="store_true", help="make the demo accounts even when DATABASE_URL is set"
        )
        parser.add_argument(
            "--no-demo", action="store_true", help="do not start the example runs on first boot"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the stack until Ctrl-C, SIGTERM or a hang-up, then stop all of it."""
        given = environment()
        stack = Supervisor(
            home=given.home,
            port=given.port,
            demo_accounts=True if options["demo"] else None,
            demo_runs=not options["no_demo"],
            terminal=Terminal(),
        )
        stack.terminal.line()
        stack.terminal.line(f"  Signalbox is starting; its state is in {stack.home}")
        stack.terminal.line()
        asked = threading.Event()
        failure: StackError | None = None
        with _signals_set(asked, stack):
            try:
                stack.start()
                threading.Thread(target=stack.announce_when_usable, daemon=True).start()
                failure = _until(asked, stack)
            except StackError as error:
                raise CommandError(str(error)) from error
            finally:
                if stack.is_started:
                    stack.terminal.line()
                    stack.terminal.line("  Stopping; once more Ctrl-C ends everything at once.")
                    stack.stop()
                    stack.terminal.line("  Stopped. The state stays; the next start goes on from here.")
        if failure is not None:
            raise CommandError(str(failure))


def _until(asked: threading.Event, stack: Supervisor) -> StackError | None:
    """Block until asked to stop, or until the stack cannot go on; return why in that case."""
    while not asked.wait(0.25):
        if stack.fatal is not None:
            return stack.fatal
    return None


@contextlib.contextmanager
def _signals_set(asked: threading.Event, stack: Supervisor) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or hang-up into `asked` and a second one into haste, for a while."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            stack.hurry()
        asked.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
