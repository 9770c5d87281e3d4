"""Ask something that may hang, without hanging: each question runs in a thread of its own, one at a time.

The answer is kept, so that many who ask cost one question. A question without an answer is told as such: it waits on,
and nobody asks it a second time meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db import connections

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Known(Generic[Answer]):
    """What is known of one question."""

    answer: Answer | None  # the last one; None: there was none yet
    answered_at: float  # monotonic seconds of that answer
    waiting: float  # seconds that the question under way has waited, 0 without one
    good_at: float | None  # monotonic seconds of the last good answer
    bad_since: float | None  # monotonic seconds; None: the last answer was good, or there was none


class Probe(Generic[Answer]):
    """One question, asked when somebody wants to know and the answer has grown old."""

    def __init__(self, ask: Callable[[], Answer], is_good: Callable[[Answer], bool]) -> None:
        """`ask` may take as long as it likes and must not raise; `is_good` judges its answer."""
        self._ask = ask
        self._is_good = is_good
        self._lock = threading.Lock()
        self._answer: Answer | None = None
        self._answered_at = float("-inf")
        self._begun_at: float | None = None
        self._good_at: float | None = None
        self._bad_since: float | None = None
        self._answered = threading.Event()

    def start(self, kept_seconds: float) -> None:
        """Ask, unless that is being done or the answer is younger than `kept_seconds`."""
        with self._lock:
            now = time.monotonic()
            if self._begun_at is not None or now - self._answered_at < kept_seconds:
                return
            self._begun_at = now
            self._answered.clear()
        in_background(self._run)

    def wait(self, seconds: float) -> None:
        """Wait for the question under way, at most so long."""
        with self._lock:
            waits = self._begun_at is not None
        if waits and seconds > 0:
            self._answered.wait(seconds)

    def known(self) -> Known[Answer]:
        """Return what is known now."""
        with self._lock:
            waiting = 0.0 if self._begun_at is None else time.monotonic() - self._begun_at
            return Known(self._answer, self._answered_at, waiting, self._good_at, self._bad_since)

    def _run(self) -> None:
        begun_at = time.monotonic()
        try:
            answer = self._ask()
            with self._lock:
                self._answer, self._answered_at = answer, time.monotonic()
                if self._is_good(answer):
                    self._good_at, self._bad_since = self._answered_at, None
                elif self._bad_since is None:
                    self._bad_since = begun_at
        finally:
            with self._lock:
                self._begun_at = None
            self._answered.set()


def in_background(work: Callable[[], None]) -> None:
    """Do the work in a thread that keeps no process alive and gives its database connection back."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    threading.Thread(target=run, name="probe", daemon=True).start()


def within(seconds: float, work: Callable[[], Answer], otherwise: Answer) -> Answer:
    """Return what the work returns, `otherwise` when that takes longer; raises what it raises."""
    found: list[Answer] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.append(work())
        except BaseException as exc:  # noqa: BLE001  raised again where it was asked for
            failed.append(exc)
        finally:
            done.set()

    in_background(run)
    done.wait(seconds)
    if failed:
        raise failed[0]
    return found[0] if found else otherwise
