"""The stack that a drill plays on: its own folder, ports, engines, processes, and the ways to look into them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from psycopg.rows import dict_row
from temporalio.client import Client, WorkflowHandle

from console.environment import PROJECT
from console.temporal_connection import connect, embedded
from drills.errors import NotStruck
from drills.history import History
from drills.mail import MailSystem
from drills.shop import OURS, WatchedShop
from drills.waiting import PATIENCE, until
from stack import ports
from stack.processes import identify
from stack.supervisor import Supervisor

HEARTBEAT_SECONDS = 10  # of a turn: a killed worker is noticed after it, a slow one is none
WORKERS = ("worker", "worker-2")
AGENTS = (
    "orchestration.agents.support.agent:AGENT",
    "drills.fickle_agent:AGENT",
    "guarded=drills.guarded_agent:graph",
    *(
        f"drills.changing_agents:{name}"
        for name in ("GATE_RENAMED", "GATE_REMOVED", "ACT_REMOVED", "ACT_RENAMED", "NODE_ADDED", "KEY_GONE")
    ),
)
#: of the person's own environment, nothing that would change what is tried
_NOT_INHERITED = ("SIGNALBOX_", "TEMPORAL_", "PREFECT_", "OPENAI_", "ANTHROPIC_", "DATABASE_URL", "DJANGO_")
_KEPT = ("SIGNALBOX_CACHE",)

Row = dict[str, Any]


@dataclass(frozen=True)
class Fired:
    """Proof that a fault point was reached by an armed process."""

    point: str
    action: str
    pid: int


@dataclass(frozen=True)
class Lost:
    """No answer to a request, or one that does not tell whether it was done."""

    why: str


class Stage:
    """Start with `async with`; everything is gone afterwards but the folder."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.home = home
        self.say = say
        self.handbook = home / "handbook"
        self.shop = WatchedShop(home / "shop.sqlite3")
        self.mail = MailSystem(home / "mail")
        self.history = History(home / "history.jsonl")
        self.stack = Supervisor(
            home=home,
            port=ports.free_port(),
            environment=self._environment(),
            parts=("postgres", "temporal", "prefect", "web", "worker", "relay", "flows"),
            workers=len(WORKERS),
            time_skipping=True,
            demo_accounts=True,
        )
        self.days_passed = 0.0  # on the database's clock; it never goes back
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._temporal: Client | None = None
        self._database: psycopg.AsyncConnection[Row] | None = None
        self._database_lock = asyncio.Lock()

    def _environment(self) -> dict[str, str | None]:
        removed: dict[str, str | None] = {
            name: None for name in os.environ if name.startswith(_NOT_INHERITED) and name not in _KEPT
        }
        return {
            **removed,
            "SIGNALBOX_FAULTS": "true",
            "SIGNALBOX_AGENTS": ",".join(AGENTS),
            "SIGNALBOX_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "SIGNALBOX_HANDBOOK": str(self.handbook),
            "SIGNALBOX_SHOP_URL": self.shop.url,
            "SIGNALBOX_EMAIL_URL": self.mail.url,
        }

    async def __aenter__(self) -> Stage:
        shutil.copytree(PROJECT / "examples" / "handbook", self.handbook)
        (self.home / "faults").mkdir()
        self.shop.start()
        self.mail.start()
        try:
            await asyncio.to_thread(self.stack.start)
            await asyncio.to_thread(self.stack.wait_ready, None, PATIENCE)
            self.stack.terminal.hush()  # from here on parts die on purpose
            await until(self._has_accounts, "the demo accounts")
            for account in self.stack.demo_accounts():
                self._clients[account["username"]] = httpx.AsyncClient(
                    base_url=f"{self.stack.web_url}/api/v1",
                    headers={"Authorization": f"Bearer {account['token']}"},
                    timeout=httpx.Timeout(30, connect=5),
                    limits=httpx.Limits(max_connections=60),
                )
            await until(self._has_handbook, "the first version of the handbook")
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        if self._database is not None:
            await self._database.close()
        await asyncio.to_thread(self.stack.stop)
        await asyncio.to_thread(self.shop.stop)
        await asyncio.to_thread(self.mail.stop)
        self.history.close()

    async def _has_accounts(self) -> bool:
        return bool(self.stack.demo_accounts())

    async def _has_handbook(self) -> bool:
        current = "SELECT 1 FROM dataplane_dataset WHERE name = 'handbook' AND current_version_id IS NOT NULL"
        return bool(await self.sql(current))

    # Looking and asking.

    def api(self, username: str) -> httpx.AsyncClient:
        """Return the JSON API as this person sees it."""
        return self._clients[username]

    async def ask(
        self, who: str, path: str, body: Any, *, key: str = "", lost: list[Lost] | None = None
    ) -> httpx.Response:
        """Post as a person and note it in the history, until there is an answer; add to `lost` what was lost before.

        Raises NotInTime.
        """

        async def look() -> httpx.Response | None:
            answer = await self._posted(who, path, body, key)
            if isinstance(answer, httpx.Response):
                return answer
            if lost is not None:
                lost.append(answer)
            return None

        return await until(look, f"an answer to POST {path}")

    async def _posted(self, who: str, path: str, body: Any, key: str) -> httpx.Response | Lost:
        operation = self.history.operation(who, f"POST {path}")
        headers = {"Idempotency-Key": key} if key else {}
        try:
            answer = await self.api(who).post(path, json=body, headers=headers)
        except httpx.TransportError as exc:
            self.history.note("unknown", who, f"POST {path}", operation=operation, error=repr(exc))
            return Lost(repr(exc))
        if answer.status_code >= 500:
            self.history.note("unknown", who, f"POST {path}", operation=operation, status=answer.status_code)
            return Lost(f"{answer.status_code} {answer.text[:200]}")
        kind: Any = "ok" if answer.is_success else "refused"
        self.history.note(kind, who, f"POST {path}", operation=operation, status=answer.status_code)
        return answer

    async def get(self, who: str, path: str) -> Row:
        """Read one JSON object of the API, patiently."""

        async def look() -> Row | None:
            answer = await self.api(who).get(path)
            return answer.json() if answer.is_success else None

        return await until(look, f"GET {path}")

    async def sql(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one statement on the stack's database. Raises psycopg.Error while it is away."""
        async with self._database_lock:
            if self._database is None or self._database.closed:
                self._database = await psycopg.AsyncConnection.connect(
                    self.stack.owner_database_url,  # it moves the clock and looks everywhere
                    autocommit=True,
                    connect_timeout=3,
                    row_factory=dict_row,
                    application_name="drill",
                )
            try:
                cursor = await self._database.execute(query, values)
                return await cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                await self._database.close()
                raise

    async def temporal(self) -> Client:
        if self._temporal is None:
            self._temporal = await connect(embedded(self.stack.temporal_address, self.stack.temporal_namespace))
        return self._temporal

    async def workflow(self, run_id: str) -> WorkflowHandle[Any, Any]:
        return (await self.temporal()).get_workflow_handle(run_id)

    async def shop_json(self, method: str, path: str, body: Any = None, **headers: str) -> Row:
        """Ask the shop without being counted."""
        async with httpx.AsyncClient(base_url=self.shop.url, timeout=PATIENCE) as client:
            answer = await client.request(method, path, json=body, headers={OURS: "1", **headers})
            answer.raise_for_status()
            found: Row = answer.json()
            return found

    # Striking.

    def arm(self, point: str, subject: str, action: str) -> None:
        """Let the first process that reaches the point for this run or refresh be killed or frozen there."""
        (self.home / "faults" / f"{point}@{subject}").write_text(action)

    async def fired(self, point: str, subject: str) -> Fired:
        """Wait for the proof that the armed point fired, and that the process is dead or stopped."""
        path = self.home / "faults" / f"{point}@{subject}.fired"

        async def look() -> Fired | None:
            if not path.exists():
                return None
            action, pid = path.read_text().split()
            return Fired(point, action, int(pid)) if has_been_hit(int(pid), action) else None

        try:
            fired = await until(look, f"fault {point} of {subject}")
        except Exception as exc:
            raise NotStruck(str(exc)) from exc
        self.history.note("struck", f"pid {fired.pid}", point, subject=subject, action=fired.action)
        return fired

    async def busy_worker(self, run_id: str) -> tuple[str, int]:
        """Return part and pid of the worker that has the run's turn in hand, by Temporal's own word."""
        handle = await self.workflow(run_id)

        async def look() -> tuple[str, int] | None:
            description = await handle.describe()
            for pending in description.raw_description.pending_activities:
                pid = int(pending.last_worker_identity.partition("@")[0] or 0)
                part = self.part_of(pid)
                if part:
                    return part, pid
            return None

        return await until(look, f"a worker busy with {run_id}")

    def part_of(self, pid: int) -> str:
        """Return the part that runs under this pid, "" when none does."""
        return next((part for part, its in self.stack.pids().items() if its == pid), "")

    async def ready_workers(self, at_least: int = 1) -> None:
        """Wait until so many workers do their work; restarts do not wait for the supervisor's backoff."""

        async def look() -> bool:
            pids = self.stack.pids()
            for part in WORKERS:
                if part not in pids:
                    self.stack.release(part)
            wanted = [f"{socket.gethostname()}:{pids[part]}" for part in WORKERS if part in pids]
            rows = await self.sql("SELECT 1 FROM console_partheartbeat WHERE instance = ANY(%s)", [wanted])
            return len(rows) >= at_least

        await until(look, f"{at_least} workers ready")

    async def let_days_pass(self, days: float) -> None:
        """Move the database's clock on. It never goes back while the drill runs."""
        self.days_passed += days
        seconds = round(self.days_passed * 86400)
        await self.sql(
            "CREATE OR REPLACE FUNCTION signalbox_now() RETURNS timestamptz LANGUAGE sql STABLE"
            f" AS $$SELECT now() + interval '{seconds} seconds'$$"
        )
        self.history.note("struck", "database clock", f"+{days} days", total=self.days_passed)

    async def manage(self, *argv: str) -> tuple[int, str]:
        """Run a management command of the product beside the stack; return its status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "manage.py",
            *argv,
            cwd=PROJECT,
            env=self.stack.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()


def has_been_hit(pid: int, action: str) -> bool:
    """Return whether the process is gone (`kill`) or stopped (`freeze`)."""
    if action == "kill":
        return identify(pid) is None
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
