"""The walk on engines of one's own: Temporal wants a certificate or a key, Prefect a password, the owner is plain.

The stack is started with the README's variables and nothing else; a run goes to its end, and health is ok.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from examples.shop.demo_orders import DEMO_RUNS
from stack.ports import free_port
from stack.postgres import SUPERUSER, Postgres
from stack.supervisor import Supervisor
from tests.secured_engines import SecuredPrefect, SecuredTemporal, Signer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.engines
OPEN = ("starting", "running", "waiting")
OWNER_PASSWORD = "owner-of-nothing-else"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="signalbox secured ") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[Postgres]:
    (folder / "postgres of theirs").mkdir()
    with Postgres(folder / "postgres of theirs") as server:
        assert isinstance(server, Postgres)
        yield server


@pytest.fixture(scope="module")
def prefect(folder: Path) -> Iterator[SecuredPrefect]:
    (folder / "prefect of theirs").mkdir()
    with SecuredPrefect(folder / "prefect of theirs") as server:
        assert isinstance(server, SecuredPrefect)
        yield server


def owned_by_nobody_special(server: Postgres, name: str) -> str:
    """Return the address of a new database for its owner, for whom a superuser has made the extension, once."""
    role = sql.Identifier(name)
    with psycopg.connect(server.url(database="postgres", user=SUPERUSER), autocommit=True) as connection:
        password = sql.Literal(OWNER_PASSWORD)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0} TEMPLATE template0").format(role))
    with psycopg.connect(server.url(database=name, user=SUPERUSER), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    return f"postgresql://{name}:{OWNER_PASSWORD}@127.0.0.1:{server.port}/{name}"


@pytest.mark.parametrize("kind", ["certificate", "key"])
def test_a_run_goes_to_its_end_on_engines_that_ask_who_comes(
    kind: str, folder: Path, postgres: Postgres, prefect: SecuredPrefect
) -> None:
    home = folder / kind
    home.mkdir()
    signer = Signer(home) if kind == "key" else None
    with SecuredTemporal(home / "temporal of theirs", signer=signer) as temporal:
        assert isinstance(temporal, SecuredTemporal)
        api_key = signer.api_key("default:write") if signer else ""
        variables = temporal.variables | ({"TEMPORAL_API_KEY": api_key} if api_key else {})
        stack = Supervisor(
            home=home / "state",
            port=free_port(),
            environment={
                **variables,
                "DATABASE_URL": owned_by_nobody_special(postgres, kind),
                "PREFECT_API_URL": prefect.api_url,
                "PREFECT_API_AUTH_STRING": prefect.auth_string,
                "SIGNALBOX_AGENTS": None,
                "SIGNALBOX_SHOP_URL": None,
            },
            demo_accounts=True,
            quiet=True,
        )
        with stack:
            stack.wait_ready(timeout_seconds=600)
            walk(stack)
        for log in (stack.home / "logs").glob("*.log"):
            text = log.read_text(errors="replace")
            for secret in filter(None, (api_key, prefect.auth_string, OWNER_PASSWORD)):
                assert secret not in text, log.name


def walk(stack: Supervisor) -> None:
    tokens = {one["username"]: one["token"] for one in stack.demo_accounts()}

    def call(who: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {tokens[who]}"}
        return httpx.request(method, f"{stack.web_url}/api/v1/{path}", json=body, headers=headers, timeout=PATIENCE)

    def has_handbook() -> bool:
        return call("ada", "GET", "datasets/handbook").json().get("current_version") is not None

    until(has_handbook)
    made = call("olga", "POST", "runs", {"agent": "support", "input": dict(DEMO_RUNS[0])})
    assert made.status_code == 201, made.text
    path = f"runs/{made.json()['id']}"

    def has_ended() -> bool:
        run: dict[str, Any] = call("olga", "GET", path).json()
        for approval_id in run["waiting_for"]:
            shown = call("alice", "GET", f"approvals/{approval_id}").json()
            said = {"verdict": "approve", "version": shown["version"], "digest": shown["digest"]}
            for who in ("alice", "bob"):  # should two people be needed
                call(who, "POST", f"approvals/{approval_id}/decision", said)
        return run["status"] not in OPEN

    until(has_ended)
    run = call("olga", "GET", path).json()
    assert run["status"] == "finished", run
    until(lambda: call("ada", "GET", "health").json()["status"] == "ok", lambda: call("ada", "GET", "health").text)


def until(happened: Callable[[], bool], otherwise: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.5)
