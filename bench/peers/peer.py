"""What every system that is compared can do: be started, wait for a person's answer, be answered, be ended."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.request import urlopen

import psycopg

from bench.peers.installing import Installer, PeerFailed, last_word_of
from stack.errors import StackError
from stack.postgres import ROLE, SUPERUSER, Postgres
from stack.processes import Command, end_stragglers
from stack.services import Service

START_SECONDS = 180.0


class Answerable:
    """What is measured."""

    title: ClassVar[str]
    version: ClassVar[str] = ""

    async def waiting(self) -> Any:
        """Begin work that waits for a person; return what answers it, once it waits."""
        raise NotImplementedError

    async def answered(self, waiting: Any) -> int:
        """Answer it, and return how long after that its next step ran, in ns."""
        raise NotImplementedError


class Program(Service):
    """One process of a peer."""

    stop_seconds = 10.0
    ready_seconds = START_SECONDS
    poll_seconds = 0.2

    def __init__(self, home: Path, name: str, command: Command, is_ready: Callable[[], bool] = lambda: True) -> None:
        super().__init__(home)
        self.name = name
        self._command = command
        self._is_ready = is_ready

    def command(self) -> Command:
        return self._command

    def is_ready(self) -> bool:
        return self._is_ready()


class Peer(Answerable):
    """A system of others, with a PostgreSQL of its own that is set as ours is; everything lies below `home`."""

    name: ClassVar[str]

    def __init__(self, home: Path) -> None:
        self.home = home
        self.installer = Installer(home)
        self._started: list[Service] = []

    def install(self) -> None:
        """Install what is not yet in the cache. Raises PeerFailed."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it until it can be answered. Raises PeerFailed or StackError; `stop` ends what has begun."""
        raise NotImplementedError

    def stop(self) -> None:
        """End every process that was started, the last one first, then what those have left behind."""
        try:
            for service in reversed(self._started):
                service.stop()
        finally:
            for _ in range(100):  # until the last of them is gone, and the folder can be removed
                if not end_stragglers(self.home, spare=set()):
                    break
                time.sleep(0.05)

    # For those that are built on this.

    def start_postgres(self) -> Postgres:
        """Start a server, with an empty database of the peer's name."""
        server = Postgres(self.home)
        self._started.append(server)
        server.start()
        with psycopg.connect(server.url("postgres", SUPERUSER), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.name} OWNER {ROLE}")
        return server

    def start_program(
        self,
        name: str,
        argv: Sequence[str | Path],
        environment: Mapping[str, str],
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Start one that stays, and wait until it is ready. Raises PeerFailed with its own last line."""
        command = Command([str(one) for one in argv], environment, self.home)
        program = Program(self.home, name, command, is_ready)
        self._started.append(program)
        try:
            program.start()
        except StackError as error:
            raise PeerFailed(f"{name} did not start: {last_word_of(self.home, name)}") from error


def plain_environment(*programs: Path, **more: str) -> dict[str, str]:
    """Return an environment without anything of ours; `programs`: folders to find programs in first."""
    path = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8", "TZ": "UTC", **more}


def says_yes(address: str) -> bool:
    """Return whether something answers there with success."""
    with contextlib.suppress(URLError, OSError), urlopen(address, timeout=5) as answer:
        return bool(answer.status == 200)
    return False
