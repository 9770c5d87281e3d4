from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.environment import environment
from stack.errors import StackError
from stack.supervisor import Supervisor
from stack.terminal import Terminal


class Command(BaseCommand):
    help = "Start the whole stack in this terminal: engines, web, worker, relay, flows and the example shop."
    # The parts check themselves; this command must also start when they would not.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--demo", action="store_true", help="make the demo accounts even when DATABASE_URL is set")
        parser.add_argument("--no-demo", action="store_true", help="do not start the example runs on first boot")

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
        wish = _Wish(stack)
        failure: StackError | None = None
        with wish.listening():
            try:
                stack.start()
                threading.Thread(target=stack.announce_when_usable, daemon=True).start()
                failure = _until(wish, stack)
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


def _until(wish: _Wish, stack: Supervisor) -> StackError | None:
    """Block until asked to stop, or until the stack cannot go on; return why in that case."""
    while not wish.is_asked:
        if stack.fatal is not None:
            return stack.fatal
        time.sleep(0.1)
    return None


class _Wish:
    """The wish to stop, heard from Ctrl-C, SIGTERM or a hang-up; a second one, a second later, is haste.

    A handler runs in the middle of whatever the main thread does, also inside a lock, and another signal
    may come while it runs. So it only sets plain attributes: `Event.set` would wait for itself for ever.
    """

    def __init__(self, stack: Supervisor) -> None:
        self.is_asked = False
        self._asked_at = 0.0
        self._stack = stack

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Install the handlers, and put the old ones back afterwards."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.is_asked:
            self.is_asked, self._asked_at = True, now
        elif now - self._asked_at > 1.0:  # shells and `timeout` send the same signal twice at once
            self._stack.hurry()
