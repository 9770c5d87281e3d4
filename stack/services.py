"""The shape that every part of the stack shares: prepare, start or adopt, wait until ready, stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from stack.errors import PartFailed, Stopped
from stack.files import last_lines
from stack.processes import Command, Process, cpu_seconds

#: Says one line to the person at the terminal.
Say = Callable[[str], None]
#: Asks whether to give up waiting.
Cancelled = Callable[[], bool]

LEAST_WORK = 1 / 60  # of its time to become ready: a part that used less of a processor waits, or hangs
SLOW_AT_MOST = 9  # times that a part which works is given its time to become ready again

PROJECT = Path(__file__).resolve().parent.parent


def silent(line: str) -> None:
    """Say nothing."""


def never() -> bool:
    """Never give up."""
    return False


class Service:
    """One part: knows how to start one process, when it is ready, and how to stop it.

    Usable alone (`start`, `stop`, `with`) and by the supervisor, which calls the steps itself.
    """

    name: str
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 4.0  # after that it is killed
    stop_leader_only: bool = False  # the process tells its own children
    ready_seconds: float = 60.0  # longest wait for it to become ready
    poll_seconds: float = 0.05  # between two looks while it starts
    adoptable: bool = False  # whether it may live on under a new `up`

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: Process | None = None

    # What a part defines.

    def prepare(self, say: Say, cancelled: Cancelled = never) -> None:
        """Do once what must be there before the first start. May take minutes; raises StackError."""

    def command(self) -> Command:
        """Return how to start the process. Called before every start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Return whether the part does its work now. Called every `poll_seconds` while it starts."""
        raise NotImplementedError

    def before_launch(self) -> None:
        """Clear away what an earlier process that was killed may have left."""

    def place(self) -> str:
        """Return where it is, for people: "on 127.0.0.1:5433"; "" when there is nothing to say."""
        return ""

    # What all parts do alike.

    @property
    def log_path(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """The pid of the process, `None` while there is none."""
        process = self.process  # another thread may clear it at any moment
        return process.pid if process is not None and process.is_running() else None

    def leftover(self) -> Process | None:
        """Return the process that an earlier `up` left running, `None` when there is none that is ours."""
        return Process.recorded(self.name, self.home)

    def adopt(self) -> bool:
        """Take over the process that an earlier `up` left, if it is ours and answers; else end it.

        Returns whether it was taken over. What cannot be adopted is ended either way.
        """
        left = self.leftover()
        if left is None:
            return False
        self.process = left
        if self.adoptable and self._answers_within(3.0):
            return True
        left.stop(self.stop_signal, self.stop_seconds, leader_only=self.stop_leader_only)
        self.process = None
        return False

    def _answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if time.monotonic() >= deadline or self.pid is None:
                return False
            time.sleep(self.poll_seconds)
        return True

    def launch(self) -> None:
        """Start the process without waiting for it. Raises PartFailed when that cannot be done."""
        try:
            self.before_launch()
            self.process = Process.launch(self.name, self.home, self.command())
        except OSError as error:
            raise PartFailed(f"{self.name} could not be started: {error}.") from error

    def wait_ready(self, cancelled: Cancelled = never) -> None:
        """Wait until ready. Raises PartFailed when it died or took too long, Stopped when `cancelled`.

        What works is given its time again, some times: on a busy machine an import alone may take minutes, and whoever
        is ended in the middle of it begins anew and never comes up.
        """
        deadline, worked, left = time.monotonic() + self.ready_seconds, self._worked(), SLOW_AT_MOST
        while not self.is_ready():
            if cancelled():
                raise Stopped(f"{self.name} was told to stop while it started.")
            if self.pid is None:
                raise PartFailed(f"{self.name} ended while it started.\n{self.log_end()}")
            if time.monotonic() >= deadline:
                now = self._worked()
                if not left or now - worked < self.ready_seconds * LEAST_WORK:
                    raise PartFailed(f"{self.name} was not ready after {self.ready_seconds:.0f} s.\n{self.log_end()}")
                deadline, worked, left = time.monotonic() + self.ready_seconds, now, left - 1
            time.sleep(self.poll_seconds)

    def _worked(self) -> float:
        """Return the seconds of processor time that the process has used."""
        process = self.process
        return cpu_seconds(process.pid) if process is not None else 0.0

    def start(self, say: Say = silent) -> None:
        """Prepare, take over or launch, and wait until ready."""
        self.prepare(say)
        if not self.adopt():
            self.launch()
            self.wait_ready()

    def stop(self) -> bool:
        """Stop the process if it runs. Return whether it ended when asked, without being killed."""
        process, self.process = self.process, None
        if process is None:
            return True
        return process.stop(self.stop_signal, self.stop_seconds, leader_only=self.stop_leader_only)

    def last_word(self) -> str:
        """Return the last line of its log, cut short; "" when there is none."""
        return last_lines(self.log_path, count=1).strip()[:300]

    def log_end(self) -> str:
        """Return the last lines of its log with the log's path, for an error message."""
        end = last_lines(self.log_path)
        return f"The end of {self.log_path}:\n{end}" if end else f"Its log {self.log_path} is empty."

    def __enter__(self) -> Service:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def inherited_environment() -> dict[str, str]:
    """Return this process's environment for a child, without what would tie its output to our terminal."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}
