"""The comparison with other systems, without any of them: what fails is named, and nothing is left running."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench.peers import installing
from bench.peers.comparison import COLUMNS, LOST_AT_MOST, WARM, Comparison
from bench.peers.installing import Installer, PeerFailed, run_to_its_end, telling
from bench.peers.peer import Answerable, Peer, plain_environment
from stack.processes import Command, Identity, stragglers
from tests.waiting import eventually

#: one that ignores being asked to end, with a child in a session of its own; it writes their pids
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid} ")
time.sleep(600)
"""


class Steady(Answerable):
    title = "Ours"

    def __init__(self, milliseconds: int) -> None:
        self._nanoseconds = milliseconds * 1_000_000

    async def waiting(self) -> str:
        return "a wait"

    async def answered(self, waiting: str) -> int:
        assert waiting == "a wait"
        return self._nanoseconds


OURS = Steady(60)


class Whole(Peer):
    """A peer that works, as long as it is not told to fail at something."""

    name, title, version = "whole", "Whole", "1.0"

    def __init__(self, home: Path, answers: int = 1000, lost_at: int | None = None) -> None:
        super().__init__(home)
        self.answers = answers
        self.lost_at = lost_at

    def install(self) -> None:
        pass

    def start(self) -> None:
        pids = self.home / "pids"
        argv = [sys.executable, "-c", STUBBORN, str(pids)]
        self.start_program("stubborn", argv, plain_environment(), lambda: pids.exists() and " " in pids.read_text())

    async def waiting(self) -> str:
        return "a wait"

    async def answered(self, waiting: str) -> int:
        self.answers -= 1
        if self.answers < 0 or self.answers == self.lost_at:
            raise PeerFailed("no more answers")
        return 30_000_000


class NotInstalled(Whole):
    name, title = "absent", "Absent"

    def install(self) -> None:
        raise PeerFailed("error: there is no such version")


class NotStarted(Whole):
    name, title = "dead", "Dead"

    def start(self) -> None:
        super().start()
        argv = [sys.executable, "-c", "raise ValueError('no port is free')"]
        self.start_program("dead-server", argv, plain_environment(), lambda: False)


class Broken(Whole):
    """Has a fault of its own that nobody thought of."""

    name, title = "broken", "Broken"

    async def waiting(self) -> str:
        raise KeyError("resume")


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    monkeypatch.setattr("bench.peers.peer.Program.stop_seconds", 0.1)  # of those that ignore being asked

    def home(name: str) -> Path:
        (tmp_path / name).mkdir()
        return tmp_path / name

    return home


def left_of(home: Path) -> list[Identity]:
    return list(stragglers(home))


async def compared(*peers: Peer, trials: int = 6) -> tuple[Comparison, list[str]]:
    said: list[str] = []
    comparison = Comparison(peers, said.append)
    comparison.install()
    with ExitStack() as ended:
        comparison.start(ended)
        await comparison.measure(OURS, trials, settle=(0, 0))
    return comparison, said


@pytest.mark.asyncio
async def test_each_has_its_line_and_whoever_fails_is_named_with_its_own_words(homes: Callable[[str], Path]) -> None:
    peers = [
        Whole(homes("whole")),
        NotInstalled(homes("absent")),
        NotStarted(homes("dead")),
        Broken(homes("broken")),
    ]
    comparison, said = await compared(*peers)
    assert comparison.rows(OURS) == [
        ["Ours", "60.0", "60.0", "1.00"],
        ["Whole 1.0", "30.0", "30.0", "0.50"],
        ["Absent 1.0: not measured, *error: there is no such version*", "", "", ""],
        ["Dead 1.0: not measured, *dead-server did not start: ValueError: no port is free*", "", "", ""],
        ["Broken 1.0: not measured, *KeyError: 'resume'*", "", "", ""],
    ]
    assert all(len(row) == len(COLUMNS) for row in comparison.rows(OURS))
    assert len(comparison.times["Whole"]) == 6, "those that warm up are not counted"
    assert [line for line in said if "left out" in line and "Dead" in line]


@pytest.mark.asyncio
async def test_one_that_fails_of_a_single_trial_is_measured_and_the_trial_is_told(homes: Callable[[str], Path]) -> None:
    comparison, _ = await compared(Whole(homes("whole"), lost_at=995), trials=5)
    assert comparison.rows(OURS)[1] == ["Whole 1.0, 1 more failed", "30.0", "30.0", "0.50"]
    assert comparison.notes() == ["Whole failed of some: *no more answers*"]
    assert len(comparison.times["Whole"]) == 4


@pytest.mark.asyncio
async def test_one_that_stops_answering_half_way_has_no_figures_and_the_others_all_of_theirs(
    homes: Callable[[str], Path],
) -> None:
    comparison, _ = await compared(Whole(homes("whole"), answers=WARM + 2), trials=5)
    assert comparison.rows(OURS)[1] == ["Whole 1.0: not measured, *no more answers*", "", "", ""]
    assert len(comparison.times["Ours"]) == 5


@pytest.mark.asyncio
async def test_what_was_started_is_ended_whatever_happens(homes: Callable[[str], Path]) -> None:
    peers: list[Peer] = [Whole(homes("whole")), NotStarted(homes("dead")), Broken(homes("broken"))]
    running: list[int] = []

    class Watching(Steady):
        async def waiting(self) -> str:
            running.append(len(left_of(peers[0].home)))
            raise RuntimeError("ours fails")

    with pytest.raises(RuntimeError, match="ours fails"), ExitStack() as ended:
        comparison = Comparison(peers, lambda _: None)
        comparison.start(ended)
        await comparison.measure(Watching(60), 1, settle=(0, 0))
    assert running == [2], "the program and its child, while they were measured"
    assert [left_of(peer.home) for peer in peers] == [[], [], []]


@pytest.mark.asyncio
async def test_one_that_fails_half_way_takes_no_more_time_from_the_others(homes: Callable[[str], Path]) -> None:
    peer = Broken(homes("broken"))
    with ExitStack() as ended:
        comparison = Comparison([peer], lambda _: None)
        comparison.start(ended)
        assert len(left_of(peer.home)) == 2
        await comparison.measure(OURS, LOST_AT_MOST + 1, settle=(0, 0))
        assert left_of(peer.home) == []


def test_a_step_that_is_not_done_in_time_is_ended_with_its_children(homes: Callable[[str], Path]) -> None:
    home = homes("slow")
    children = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).wait()"
    command = Command([sys.executable, "-c", children], plain_environment(), home)
    with pytest.raises(PeerFailed, match="slow was not done after 0 s"):
        run_to_its_end(home, "slow", command, 0.0)
    eventually(lambda: not left_of(home), "the step and its child are gone")


def test_an_installation_that_was_cut_off_is_done_again_and_one_that_is_there_is_not(
    homes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, calls = homes("installing"), homes("calls") / "calls"
    client = home / "client"
    client.write_text(
        f'#!/bin/sh\necho "$1" >> {calls}\n[ ! -e {home}/offline ] || {{ echo "error: no way"; exit 2; }}\n'
    )
    client.chmod(0o755)
    monkeypatch.setattr(installing, "_UV", client)
    monkeypatch.setattr(installing, "cache_root", lambda: home / "cache")
    installer = Installer(home)
    (home / "offline").touch()
    with pytest.raises(PeerFailed, match="error: no way"):
        installer.python("one", ["one==1"])
    (home / "offline").unlink()
    place = installer.python("one", ["one==1"])
    assert installer.python("one", ["one==1"]) == place
    assert installer.python("one", ["one==2"]) != place, "another version has another place"
    assert calls.read_text().split() == ["venv", *2 * ["venv", "pip"]]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("Resolving\nerror: No version of a==1\n\n", "error: No version of a==1"),
        (
            "Traceback\nsqlalchemy.exc.ProgrammingError: denied\n[SQL: CREATE]\n(Background: https://sqlalche.me/e/1)\n",
            "sqlalchemy.exc.ProgrammingError: denied",
        ),
        ("error: Failed to fetch: `https://user:word@packages.example/simple/a/`", "error: Failed to fetch: `…"),
        ("OSError: no file /home/somebody/.cache/peers/n8n/bin", "OSError: no file …"),
        ("\x1b[31mit is over\x1b[0m", "it is over"),
        ("", ""),
    ],
)
def test_a_last_line_tells_the_error_and_nothing_of_this_machine(log: str, told: str) -> None:
    assert telling(log) == told


def test_nothing_of_ours_is_told_to_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://a-secret")
    given: dict[str, Any] = dict(plain_environment(Path("/of/its/own"), MORE="yes"))
    assert "DATABASE_URL" not in given and given["MORE"] == "yes"
    assert given["PATH"].startswith("/of/its/own")
