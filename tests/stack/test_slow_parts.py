"""A part that is alive and works is given time; one that hangs is ended, and what it said last is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import services
from stack.errors import PartFailed
from stack.processes import Command, cpu_seconds
from stack.runner import Runner
from stack.services import Service
from tests.waiting import eventually

BURN = "while True: pass"
HANG = "import time; time.sleep(600)"


class Part(Service):
    """Runs a line of Python; ready when the test says so."""

    name = "part"
    ready_seconds = 0.3

    def __init__(self, home: Path, line: str, is_up: Callable[[Service], bool]) -> None:
        super().__init__(home)
        self._line, self._is_up = line, is_up

    def command(self) -> Command:
        return Command([sys.executable, "-c", self._line], {}, self.home)

    def is_ready(self) -> bool:
        return self._is_up(self)


def has_worked(seconds: float) -> Callable[[Service], bool]:
    return lambda part: part.pid is not None and cpu_seconds(part.pid) > seconds


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells how much a process has worked")
def test_a_part_that_works_is_not_ended_for_slowness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SLOW_AT_MOST", 10_000)
    monkeypatch.setattr(services, "LEAST_WORK", 0.0)  # whatever share of the processor the machine has left for it
    part = Part(tmp_path, BURN, has_worked(1.0))
    part.launch()
    try:
        part.wait_ready()
    finally:
        part.stop()


def test_a_part_that_hangs_is_given_up(tmp_path: Path) -> None:
    part = Part(tmp_path, HANG, lambda _: False)
    part.launch()
    worked = iter([1.0, 1.0, 1.0])
    part._worked = lambda: next(worked)  # type: ignore[method-assign]  # its start may take longer than it is given
    try:
        with pytest.raises(PartFailed, match="was not ready after"):
            part.wait_ready()
    finally:
        part.stop()


def test_what_a_part_said_last_is_told_when_it_ends(tmp_path: Path) -> None:
    told: list[str] = []
    part = Part(tmp_path, "import sys; print('the disk is full'); sys.exit(3)", lambda _: True)
    runner = Runner(part, needs=(), say=lambda name, text, seconds: told.append(text), changed=lambda: None)
    runner.start()
    try:
        words = "Its last words: the disk is full"
        eventually(lambda: any("ended with status 3" in text and words in text for text in told), "it is told")
    finally:
        runner.end()
        runner.join()
