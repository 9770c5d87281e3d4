"""Our own processes: web, worker, relay, flows and the example shop."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from stack import ports
from stack.prefect import answers
from stack.processes import Command
from stack.services import PROJECT, Service

#: A page is answered before a turn, and a turn before a refresh, when the machine is busy.
GIVES_WAY = {"worker": 5, "flows": 10}

#: of an idle connection to a server of ours; httpx gives one up after 5 s, nginx after 60
KEEPS_IDLE_SECONDS = 75

#: Gives the environment at the moment of a start, when every address is known.
Environment = Callable[[], Mapping[str, str]]


class ConsolePart(Service):
    """One of our processes. An orphan is ended, never adopted: it may run older code."""

    stop_seconds = 3.5
    stop_leader_only = True  # the flow process ends its own flow runs
    poll_seconds = 0.1
    niceness = 0
    argv: tuple[str, ...]

    def __init__(self, home: Path, environment: Environment) -> None:
        super().__init__(home)
        self._environment = environment

    def command(self) -> Command:
        return Command([sys.executable, *self.argv], self._environment(), PROJECT, niceness=self.niceness)


class Web(ConsolePart):
    """Pages, API and sockets: one process for every two cores, under one that has the port where there are several.

    Measured on two cores, a second one answers no sooner: worker, relay and engines want the other core.
    """

    name = "web"

    def __init__(self, home: Path, environment: Environment, port: int, processes: int = 0) -> None:
        """`processes`: how many; 0 is one for every two cores that we may use."""
        super().__init__(home, environment)
        self.port = port
        self.argv = (
            *("-m", "uvicorn", "console.asgi:application", "--host", ports.LOOPBACK, "--port", str(port)),
            "--no-proxy-headers",  # it believes whoever is on this machine; console.callers believes named proxies
            *("--ws-max-size", "65536", "--no-access-log", "--lifespan", "on"),
            *("--timeout-graceful-shutdown", "2"),  # open sockets would keep it for ever
            # Longer than clients and proxies keep an idle connection: else theirs is closed as they send by it.
            *("--timeout-keep-alive", str(KEEPS_IDLE_SECONDS)),
            *("--workers", str(processes or max(1, _cores() // 2))),
            *("--timeout-worker-healthcheck", "60"),  # one that is slow is not dead
        )

    def place(self) -> str:
        return f"on http://{ports.LOOPBACK}:{self.port}"

    def is_ready(self) -> bool:
        """Return whether it answers; whether the stack is well is the health's business."""
        return answers(f"http://{ports.LOOPBACK}:{self.port}/api/v1/health", refusal_counts=True)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


class Shop(ConsolePart):
    """The example shop whose refunds the example agent proposes."""

    name = "shop"

    def __init__(self, home: Path, environment: Environment, port: int) -> None:
        super().__init__(home, environment)
        self.port = port
        self.argv = (
            *("-m", "uvicorn", "examples.shop.app:app", "--host", ports.LOOPBACK, "--port", str(port)),
            *("--no-access-log", "--timeout-graceful-shutdown", "2"),
            *("--timeout-keep-alive", str(KEEPS_IDLE_SECONDS)),
        )

    def place(self) -> str:
        return f"on http://{ports.LOOPBACK}:{self.port}"

    def is_ready(self) -> bool:
        return ports.accepts(self.port)


class Loop(ConsolePart):
    """A process without an address: worker, relay, flows. It is ready when its first heartbeat is in."""

    poll_seconds = 0.2

    def __init__(self, home: Path, environment: Environment, name: str, command: str, database_url: str) -> None:
        super().__init__(home, environment)
        self.name = name
        self.argv = ("manage.py", command)
        self._database_url = database_url
        self.niceness = GIVES_WAY.get(name, 0)

    def is_ready(self) -> bool:
        return self.pid is not None and heartbeat_is_in(self._database_url, self.pid)


def heartbeat_is_in(database_url: str, pid: int) -> bool:
    """Return whether that process of this machine has said that it is alive, from `PartHeartbeat`'s table."""
    import psycopg

    try:
        with psycopg.connect(database_url, connect_timeout=2, autocommit=True) as connection:
            return (
                connection.execute(
                    "SELECT 1 FROM console_partheartbeat WHERE instance = %s",
                    [f"{socket.gethostname()}:{pid}"],
                ).fetchone()
                is not None
            )
    except psycopg.Error:
        return False


class OutsideEngine(Service):
    """An engine that somebody else looks after: never started, never stopped, only waited for."""

    poll_seconds = 1.0

    def __init__(self, home: Path, name: str, place: str, fault: Callable[[], str]) -> None:
        """`fault`: why it cannot be used now, in the engine's own words and for people to read; "" when it can."""
        super().__init__(home)
        self.name = name
        self.fault = ""  # as of the last look
        self._place = place
        self._look = fault

    def place(self) -> str:
        return f"at {self._place}, not ours"

    def is_ready(self) -> bool:
        self.fault = self._look()
        return not self.fault
