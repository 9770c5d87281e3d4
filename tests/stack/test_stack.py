"""The embedded stack: processes that are known to be ours, the engines, and the supervisor around them."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import psycopg
import pytest
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client

from console.environment import environment
from stack import runner, supervisor, temporal_binary
from stack.console_parts import Shop, Web
from stack.errors import AlreadyRunning, NoTemporalServer, PartFailed, PortTaken, Stopped
from stack.ports import Ports, free_port, is_free
from stack.postgres import APP_ROLE, ROLE, SUPERUSER, Postgres
from stack.processes import Command, Process, identify, stragglers
from stack.runner import Restarts
from stack.services import never, silent
from stack.state import Addresses
from stack.supervisor import Supervisor
from stack.temporal import Temporal, namespace_answers
from stack.temporal_binary import find_or_get
from stack.terminal import Terminal
from tests.waiting import PATIENCE, eventually

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the servers that the rest of the tests use: these stacks start their own."""
    for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "PREFECT_API_URL", "SIGNALBOX_SHOP_URL"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def closed_folder() -> Iterator[Path]:
    """Give a folder of our own. pytest's closes itself again whenever another session starts on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="signalbox stack "))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A state folder whose path holds a space, below a folder that only its owner may enter."""
    with closed_folder() as folder:
        (folder / "state").mkdir(mode=0o700)
        yield folder / "state"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closed_folder() as folder:
        server = Postgres(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def temporal() -> Iterator[Temporal]:
    with closed_folder() as folder:
        server = Temporal(folder)
        server.start()
        yield server
        server.stop()


def sleeper(home: Path, name: str = "sleeper", seconds: int = 60) -> Process:
    return Process.launch(name, home, Command(["sleep", str(seconds)], dict(os.environ), home))


# Processes


def test_a_pid_that_was_given_to_somebody_else_is_not_ours(home: Path) -> None:
    process = sleeper(home)
    try:
        assert Process.recorded("sleeper", home) is not None
        path = Process.record_path(home, "sleeper")
        path.write_text(json.dumps({"pid": process.pid, "started": "at another time"}))
        assert Process.recorded("sleeper", home) is None
        impostor = Process("sleeper", home, type(process.identity)(process.pid, "at another time"))
        impostor.stop(signal.SIGTERM, 0.1)
        assert process.is_running()
    finally:
        process.stop(signal.SIGKILL, 2)
    assert identify(process.pid) is None


def test_stopping_a_process_ends_its_children_too(home: Path) -> None:
    argv = ["sh", "-c", "sleep 61 & echo $!; wait"]
    process = Process.launch("parent", home, Command(argv, dict(os.environ), home))
    log = home / "logs" / "parent.log"
    while not log.read_text().strip():
        time.sleep(0.01)
    child = int(log.read_text())
    assert process.stop(signal.SIGTERM, PATIENCE, leader_only=True)
    eventually(lambda: identify(child) is None, "the child has ended too")


def test_a_process_that_ignores_the_request_is_killed(home: Path) -> None:
    argv = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"]
    process = Process.launch("stubborn", home, Command(argv, {"PYTHONUNBUFFERED": "1"}, home))
    while not (home / "logs" / "stubborn.log").read_text():
        time.sleep(0.01)
    assert not process.stop(signal.SIGTERM, 0.2)
    assert identify(process.pid) is None
    assert not Process.record_path(home, "stubborn").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_of_the_stack_is_found_without_any_note(home: Path) -> None:
    process = sleeper(home)
    process.forget()
    assert [identity.pid for identity in stragglers(home)] == [process.pid]
    process.stop(signal.SIGKILL, 2)
    assert not list(stragglers(home))


def full_disk(noted: list[int]) -> Callable[[Process], None]:
    def record(process: Process) -> None:
        noted.append(process.pid)
        raise OSError(errno.ENOSPC, "No space left on device")

    return record


def test_a_process_that_cannot_be_noted_is_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []
    monkeypatch.setattr(Process, "record", full_disk(noted))
    with pytest.raises(PartFailed, match=r"shop could not be started: .*No space left"):
        Shop(home, lambda: dict(os.environ), free_port()).launch()
    assert [identify(pid) for pid in noted] == [None]


# Ports


def test_ports_stay_the_same_and_outside_the_ephemeral_range(home: Path) -> None:
    first, second = Ports(home), Ports(home)
    port, other = first.assign("postgres"), second.assign("prefect")
    assert (Ports(home).assign("postgres"), Ports(home).assign("prefect")) == (port, other)
    assert 20_000 <= port < 30_000
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert Ports(home).assign("postgres") != port


def test_a_port_that_another_process_has_chosen_is_not_free_though_its_server_does_not_listen_yet(home: Path) -> None:
    """Two servers of two test processes once drew one number 16 s apart: the second took the first for itself."""
    draw = "import random; from stack.ports import free_port; random.seed({}); print(free_port(), flush=True)"
    argv = [sys.executable, "-c", draw.format(8) + "; input()"]
    with subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = int(other.stdout.readline())
        assert is_free(theirs), "nobody listens there"

        drawn = random.getstate()
        random.seed(8)
        ours = free_port()
        random.setstate(drawn)
        assert ours != theirs

        home.mkdir(parents=True, exist_ok=True)
        (home / "ports.json").write_text(json.dumps({"prefect": theirs, "postgres": ours}))
        assert Ports(home).assign("prefect") != theirs
        assert Ports(home).assign("postgres") == ours, "what is remembered is chosen again"
        other.communicate("")
    assert subprocess.run(
        [sys.executable, "-c", draw.format(8)], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.strip() == str(theirs), "a port is given back with its process"


def test_pauses_double_and_start_over_after_a_minute_of_health() -> None:
    restarts = Restarts()
    assert [restarts.pause(0) for _ in range(9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
    assert restarts.pause(59) == 15.0
    assert restarts.pause(60) == 0.2


# PostgreSQL


def test_postgres_wants_its_password_and_has_pgvector(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        assert connection.execute("SELECT '[1,2]'::vector <-> '[1,3]'").fetchone() == (1.0,)
        assert connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone() == (False,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url().replace(postgres.password, "wrong"))
    assert (postgres.home / "postgres-password").stat().st_mode & 0o077 == 0


def test_the_apps_role_has_a_password_of_its_own(postgres: Postgres) -> None:
    postgres.ensure_app_role()
    with psycopg.connect(postgres.url(user=APP_ROLE)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (APP_ROLE,)
    assert (postgres.home / "postgres-app-password").stat().st_mode & 0o077 == 0
    for user in (ROLE, SUPERUSER):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.url(user=user).replace(postgres.password, postgres.app_password))


def test_no_part_is_given_the_owners_address(home: Path) -> None:
    given = {"DATABASE_URL": "postgresql://app@h/x", "SIGNALBOX_OWNER_DATABASE_URL": "postgresql://owner@h/x"}
    stack = Supervisor(home=home, parts=[], environment=given)
    assert stack.environment()["DATABASE_URL"] == "postgresql://app@h/x"
    assert "SIGNALBOX_OWNER_DATABASE_URL" not in stack.environment()


@pytest.mark.parametrize(
    ("asked", "changes", "expected"),
    [
        (True, {}, "1"),
        (None, {}, "1"),
        (True, {"SIGNALBOX_WEBHOOKS_TO_PRIVATE": "0"}, "0"),
        (False, {}, None),
        (None, {"DATABASE_URL": "postgresql://app@h/x"}, None),
    ],
)
def test_webhooks_may_go_to_this_machine_where_there_are_demo_accounts(
    asked: bool | None, changes: dict[str, str], expected: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGNALBOX_WEBHOOKS_TO_PRIVATE", raising=False)
    stack = Supervisor(home=home, parts=[], demo_accounts=asked, environment={"DATABASE_URL": None, **changes})
    assert stack.environment().get("SIGNALBOX_WEBHOOKS_TO_PRIVATE") == expected


@pytest.mark.parametrize(
    ("asked", "changes", "expected"),
    [
        (True, {}, "*"),
        (True, {"SIGNALBOX_SIGNALS": "robot=default/approved"}, "robot=default/approved"),
        (False, {}, None),
    ],
)
def test_no_admin_confirms_signals_where_there_are_demo_accounts(
    asked: bool, changes: dict[str, str], expected: str | None, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGNALBOX_SIGNALS", raising=False)
    stack = Supervisor(home=home, parts=[], demo_accounts=asked, environment={"DATABASE_URL": None, **changes})
    assert stack.environment().get("SIGNALBOX_SIGNALS") == expected


def test_a_killed_postgres_starts_again_with_everything_committed(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert postgres.process is not None
    postgres.process.send_to_leader(signal.SIGKILL)
    postgres.process.wait(PATIENCE)
    postgres.process.reap()
    # The pid in the file it left may belong to somebody else by now; PostgreSQL alone would refuse to start.
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]) + "\n")
    postgres.launch()
    postgres.wait_ready()
    with psycopg.connect(postgres.url()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_a_running_postgres_is_taken_over_even_without_its_note(postgres: Postgres) -> None:
    Process.record_path(postgres.home, "postgres").unlink()
    second = Postgres(postgres.home)
    assert second.adopt()
    assert (second.pid, second.port) == (postgres.pid, postgres.port)


def test_a_set_up_that_was_cut_off_leaves_no_half_database(home: Path) -> None:
    (home / "postgres.new-cut-off").mkdir()
    with Postgres(home) as server:
        assert isinstance(server, Postgres)
        psycopg.connect(server.url()).close()
        assert not list(home.glob("postgres.new-*"))
    assert server.pid is None


# Temporal


@pytest.mark.engines
def test_histories_are_kept_for_thirty_days_also_where_the_server_has_made_the_namespace_itself(
    temporal: Temporal,
) -> None:
    async def kept(change: timedelta | None = None) -> timedelta:
        client = await Client.connect(temporal.address)
        if change is not None:
            config = NamespaceConfig()
            config.workflow_execution_retention_ttl.FromTimedelta(change)
            await client.workflow_service.update_namespace(UpdateNamespaceRequest(namespace="default", config=config))
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        return found.config.workflow_execution_retention_ttl.ToTimedelta()

    for before, after in ((timedelta(days=1), timedelta(days=30)), (timedelta(days=90), timedelta(days=90))):
        assert asyncio.run(kept(before)) == before
        assert namespace_answers(temporal.address, "default")
        assert asyncio.run(kept()) == before, "of a server that is not ours nothing is changed"
        assert namespace_answers(temporal.address, "default", register=True)
        assert asyncio.run(kept()) == after
    asyncio.run(kept(timedelta(days=30)))


@pytest.mark.engines
def test_a_killed_temporal_comes_back_on_its_port_and_can_be_taken_over(
    temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: namespace_answers(temporal.address, "default"), "the namespace answers")
    assert not namespace_answers(temporal.address, "no-such-namespace")
    address, process = temporal.address, temporal.process
    assert process is not None
    process.send(signal.SIGKILL)
    process.wait(PATIENCE)
    process.reap()
    temporal.launch()
    temporal.wait_ready()
    assert temporal.address == address
    second = Temporal(temporal.home)
    answers_within = second._answers_within
    monkeypatch.setattr(second, "_answers_within", lambda _: answers_within(PATIENCE))
    assert second.adopt()
    assert (second.pid, second.address) == (temporal.pid, address)


def test_a_server_in_the_cache_is_used_and_a_broken_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "cache", str(tmp_path))
    monkeypatch.setattr(temporal_binary, "_downloaded", lambda *_: None)
    monkeypatch.setenv("PATH", "")
    server = temporal_binary.cache_folder() / "temporal-server"
    server.parent.mkdir(parents=True)
    server.write_text("not a program")
    server.chmod(0o755)
    with pytest.raises(NoTemporalServer) as refused:
        find_or_get(silent, never)
    for way in ("TEMPORAL_ADDRESS", str(server.parent), "`temporal` is on the PATH", "Go 1.26.8"):
        assert way in str(refused.value)
    server.write_text("#!/bin/sh\nexit 0\n")
    assert find_or_get(silent, never) == temporal_binary.Binary(server, "server")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("file", "kind", "name", "other"),
    [
        ("temporal.sqlite3", "server", "temporal-server", "temporal"),
        ("temporal-cli.sqlite3", "cli", "temporal", "temporal-server"),
    ],
)
def test_a_folder_with_workflows_takes_no_other_kind_of_server(
    file: str, kind: str, name: str, other: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "cache", str(tmp_path))
    monkeypatch.setattr(temporal_binary, "_downloaded", lambda *_: None)
    monkeypatch.setenv("PATH", "")
    program(temporal_binary.cache_folder() / other)
    server = Temporal(home)
    server.prepare()
    assert server.binary is not None and server.binary.kind != kind, "on an empty folder any will do"
    (server.folder / file).touch()
    with pytest.raises(NoTemporalServer, match=rf"are in .*{file}") as refused:
        server.prepare()
    for way in ("  1. ", "  2. ", f"move {server.folder} away"):
        assert way in str(refused.value)
    program(temporal_binary.cache_folder() / name)
    server.prepare()
    assert server.binary.kind == kind


@pytest.mark.parametrize(("file", "writes"), [("temporal.sqlite3", "server"), ("temporal-cli.sqlite3", "cli")])
def test_of_two_databases_the_one_written_last_goes_on(
    file: str, writes: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "cache", str(tmp_path))
    for name in ("temporal-server", "temporal"):
        program(temporal_binary.cache_folder() / name)
    server = Temporal(home)
    server.folder.mkdir()
    for name in ("temporal.sqlite3", "temporal-cli.sqlite3", f"{file}-wal"):
        (server.folder / name).touch()
        os.utime(server.folder / name, (1, 2 if name.endswith("-wal") else 1))
    server.prepare()
    assert server.binary is not None and server.binary.kind == writes


def test_a_cache_that_cannot_be_written_is_said_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(environment(), "cache", str(tmp_path / "file"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoTemporalServer, match=r"cache cannot be used: .*SIGNALBOX_CACHE") as refused:
        find_or_get(silent, never)
    assert "TEMPORAL_ADDRESS" in str(refused.value)


def test_the_server_is_built_with_go_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(
        '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n'
        'if [ "$1" = install ]; then mkdir -p "$GOBIN"; printf "#!/bin/sh\\n" > "$GOBIN/server"; '
        'chmod +x "$GOBIN/server"; fi\n'
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setattr(environment(), "cache", str(tmp_path / "cache"))
    monkeypatch.setattr(temporal_binary, "_downloaded", lambda *_: None)
    monkeypatch.setattr(temporal_binary, "_on_path", lambda _: None)
    said: list[str] = []
    first = find_or_get(said.append, never)
    assert first == find_or_get(said.append, never)
    assert first.path.parent == temporal_binary.cache_folder()
    assert (go.parent / "calls").read_text().splitlines() == [
        "list -m go.temporal.io/server@v1.32.1",
        "install -v -ldflags=-s -w go.temporal.io/server/cmd/server@v1.32.1",
    ]
    assert not list(first.path.parent.glob("new-*"))
    assert any("about four minutes" in line for line in said)


def test_a_build_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_binary, "_SIGN_OF_LIFE_SECONDS", 0.0)
    log, said = tmp_path / "log", list[str]()

    def say(line: str) -> None:
        said.append(line)
        if "2 of" in line:
            (tmp_path / "go").touch()

    failure = temporal_binary._run_visibly(
        ["sh", "-c", "echo go: downloading one; echo one; echo two; until [ -e go ]; do sleep 0.05; done"],
        log=log,
        environment=dict(os.environ),
        doing="building",
        say=say,
        cancelled=never,
        hopeless=lambda: "",
        progress=lambda: f"{temporal_binary._lines(log)} of about 9 packages",
    )
    assert failure == ""
    assert "still building: 2 of about 9 packages, " in said[-1]


# The supervisor


def test_a_second_start_on_the_same_folder_is_refused_in_words(home: Path) -> None:
    with Supervisor(home=home, parts=["shop"], seed_shop=False, quiet=True) as stack:
        second = Supervisor(home=home, parts=["shop"], quiet=True)
        with pytest.raises(AlreadyRunning, match=rf"already runs on .*process {os.getpid()}.*SIGNALBOX_HOME="):
            second.start()
        stack.wait_ready(["shop"], PATIENCE)
    with Supervisor(home=home, parts=[], quiet=True):
        pass


def test_what_a_part_needs_once_does_not_count_as_its_start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Event()
    monkeypatch.setattr(Shop, "prepare", lambda *_: given.wait(PATIENCE))
    with Supervisor(home=home, parts=["shop"], seed_shop=False, quiet=True) as stack:
        threading.Timer(0.5, given.set).start()
        with pytest.raises(PartFailed, match="shop was not ready after 0 s"):
            stack.wait_ready(["shop"], 0)
        assert given.is_set()
        stack.wait_ready(["shop"], PATIENCE)


@pytest.fixture
def said() -> io.StringIO:
    """What a stack tells the person at the terminal."""
    return io.StringIO()


@pytest.fixture
def endless(home: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """A stack whose commands end once the file `go` is there, and for which a quarter of an hour is a moment."""
    launch = Process.launch
    wait = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    command = Command([sys.executable, "-c", wait], dict(os.environ), home)
    monkeypatch.setattr(Process, "launch", lambda name, home, _: launch(name, home, command))
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=itertools.count(0, 900).__next__))
    return Supervisor(home=home, parts=[], terminal=Terminal(stream=said))


def test_tables_are_brought_up_to_date_however_long_it_takes(endless: Supervisor, said: io.StringIO) -> None:
    migrating = threading.Thread(target=endless._migrate)
    migrating.start()
    try:
        eventually(lambda: "database   still being set up, " in said.getvalue(), "it says that it goes on")
        assert migrating.is_alive()
    finally:
        (endless.home / "go").touch()
        migrating.join(PATIENCE)
    assert not list((endless.home / "run").iterdir()), "it has ended in good order"


def test_a_stop_ends_the_migration_too(endless: Supervisor) -> None:
    endless._stopping.set()
    with pytest.raises(Stopped):
        endless._migrate()
    assert not list(stragglers(endless.home))


def test_a_command_that_takes_too_long_is_ended(endless: Supervisor) -> None:
    with pytest.raises(PartFailed, match="demo-runs took longer than 600 s"):
        endless.run_command("demo-runs", "manage.py", timeout_seconds=600)
    assert not list(stragglers(endless.home))


def refused() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/somewhere")


def test_a_part_whose_folder_cannot_be_written_is_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries, told = iter([refused, refused]), list[str]()
    monkeypatch.setattr(runner, "RETRY_PREPARE_SECONDS", 0.01)
    monkeypatch.setattr(Shop, "prepare", lambda *_: next(tries, lambda: None)())
    monkeypatch.setattr(Shop, "is_ready", lambda _: True)
    part = Shop(home, lambda: dict(os.environ), free_port())
    life = runner.Runner(part, needs=(), say=lambda _, text, __: told.append(text), changed=lambda: None)
    life.start()
    try:
        eventually(life.ready.is_set, "it is up at last")
        assert len([text for text in told if "Permission denied: '/somewhere'" in text]) == 1
    finally:
        life.end()
        life.join(PATIENCE)


def test_what_cannot_be_written_ends_the_stack_where_nothing_works_without_it(
    home: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Postgres, "prepare", lambda *_: refused())
    with Supervisor(home=home, parts=["postgres"], quiet=True) as stack:
        eventually(lambda: stack.fatal, "it is given up")
        assert "Permission denied" in str(stack.fatal)
    stack = Supervisor(home=home, parts=[], terminal=Terminal(stream=said))
    stack._job("seed", refused)
    eventually(lambda: "seed       could not be done: " in said.getvalue(), "it is told")
    assert stack.fatal is None
    stack._job("database", refused, needed=True)
    assert isinstance(eventually(lambda: stack.fatal, "it is given up"), PartFailed)


def test_a_command_that_cannot_be_started_has_failed(home: Path) -> None:
    (home / "logs").touch()
    with pytest.raises(PartFailed, match="seed could not be started"):
        Supervisor(home=home, parts=[], quiet=True).run_command("seed", "-c", "pass")


def test_a_state_folder_that_cannot_be_made_is_refused_in_words(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(PartFailed, match=r"cannot start on the state folder .*Not a directory"):
        Supervisor(home=home / "file" / "state", parts=[], quiet=True).start()


def test_what_gives_way_starts_after_the_others_or_when_they_take_too_long(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(Shop, "prepare", lambda self, *_: begun.append(self.name))
    monkeypatch.setattr(runner, "GIVES_WAY_SECONDS", PATIENCE)
    first, last = threading.Event(), Shop(home, dict, free_port())
    life = runner.Runner(last, needs=(), gives_way_to=(first,), say=lambda *_: None, changed=lambda: None)
    life.start()
    assert not begun
    first.set()
    eventually(lambda: begun, "it starts once the other is ready")
    life.end()
    life.join(PATIENCE)

    begun.clear()
    monkeypatch.setattr(runner, "GIVES_WAY_SECONDS", 0.2)
    life = runner.Runner(last, needs=(), gives_way_to=(threading.Event(),), say=lambda *_: None, changed=lambda: None)
    life.start()
    eventually(lambda: begun, "it starts though the other never comes")
    life.end()
    life.join(PATIENCE)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_gives_way_does_so_also_where_sessions_are_scheduled(home: Path) -> None:
    process = Process.launch("nice", home, Command(["sleep", "60"], dict(os.environ), home, niceness=10))
    try:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
        group = Path(f"/proc/{process.pid}/autogroup")
        if group.exists():  # not every kernel has them
            assert group.read_text().split()[-1:] in (["10"], [])
    finally:
        process.stop(signal.SIGKILL, 2)


def test_a_taken_port_is_named_with_what_to_do(home: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        stack = Supervisor(
            home=home, parts=["web"], port=port, quiet=True, environment={"DATABASE_URL": "postgresql://x/y"}
        )
        with pytest.raises(PortTaken, match=rf"Port {port} is in use .*PORT={port + 1} make run"):
            stack.start()
    assert not list((home / "run").glob("*"))


def test_a_part_that_dies_comes_back_and_a_held_one_stays_down(home: Path) -> None:
    with Supervisor(home=home, parts=["postgres", "shop"], seed_shop=False, quiet=True) as stack:
        stack.wait_ready(timeout_seconds=PATIENCE)
        first = stack.kill("shop")
        stack.wait_ready(["shop"], PATIENCE)
        assert stack.pids()["shop"] != first
        assert json.loads((home / "stack.json").read_text())["pids"] == stack.pids()
        stack.hold("shop", signal.SIGKILL)
        before = stack.kill("postgres")
        stack.wait_ready(["postgres"], PATIENCE)
        assert stack.pids()["postgres"] != before, "what is not held comes back meanwhile"
        assert "shop" not in stack.pids()
        with pytest.raises(PartFailed, match="does not run"):
            stack.kill("shop")
        stack.release("shop")
        stack.wait_ready(["shop"], PATIENCE)
    assert not list(stragglers(home))
    assert json.loads((home / "stack.json").read_text())["pids"] == {}


def test_after_a_sigkill_the_next_start_takes_over_engines_and_ends_the_rest(home: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from stack.supervisor import Supervisor\n"
        "stack = Supervisor(home=Path(sys.argv[1]), parts=['postgres', 'shop'], seed_shop=False, quiet=True)\n"
        "stack.start(); stack.wait_ready(None, 360); print('ready', flush=True); time.sleep(60)"
    )
    up = subprocess.Popen([sys.executable, "-c", program, str(home)], cwd=PROJECT, stdout=subprocess.PIPE)
    assert up.stdout is not None
    with up.stdout:
        assert up.stdout.readline() == b"ready\n"
    before = json.loads((home / "stack.json").read_text())
    up.kill()
    up.wait()
    assert identify(before["pids"]["shop"]) is not None
    with Supervisor(home=home, parts=["postgres", "shop"], seed_shop=False, quiet=True) as stack:
        assert identify(before["pids"]["shop"]) is None
        stack.wait_ready(timeout_seconds=PATIENCE)
        assert stack.pids()["postgres"] == before["pids"]["postgres"]
        assert stack.database_url == before["database_url"]
        assert stack.shop_url == before["shop_url"]
    assert identify(before["pids"]["postgres"]) is None
    assert not list(stragglers(home))


def test_engines_of_somebody_else_are_neither_started_nor_stopped(home: Path, postgres: Postgres) -> None:
    with Supervisor(home=home, parts=["postgres"], quiet=True, environment={"DATABASE_URL": postgres.url()}) as stack:
        stack.wait_ready(timeout_seconds=PATIENCE)
        assert stack.pids() == {}
        assert stack.database_url == postgres.url()
    assert postgres.pid is not None
    assert not (home / "postgres").exists()


def test_our_servers_keep_idle_connections_longer_than_those_who_call_them(home: Path) -> None:
    nginx_keeps_it_for = 60
    for part in (Web(home, dict, 8000), Shop(home, dict, 8001)):
        seconds = int(part.argv[part.argv.index("--timeout-keep-alive") + 1])
        assert seconds > max(nginx_keeps_it_for, httpx.Limits().keepalive_expiry or 0)


def test_flows_cannot_see_temporal(home: Path) -> None:
    stack = Supervisor(home=home, parts=["temporal", "flows"], environment={"TEMPORAL_ADDRESS": "t.example:7233"})
    stack._addresses.temporal_address = "t.example:7233"
    assert stack.environment()["TEMPORAL_ADDRESS"] == "t.example:7233"
    assert not [name for name in stack._flows_environment() if name.startswith("TEMPORAL_")]


def test_stack_json_has_the_promised_keys_and_is_private(home: Path) -> None:
    Addresses(database_url="postgresql://x", pids={"web": 1}).write(home)
    assert (home / "stack.json").stat().st_mode & 0o777 == 0o600
    assert set(json.loads((home / "stack.json").read_text())) == {
        *("database_url", "owner_database_url", "temporal_address", "temporal_namespace", "prefect_api_url"),
        *("web_url", "shop_url", "pids"),
    }


@pytest.mark.parametrize("numbers", [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
def test_up_stops_everything_on_a_signal_also_when_it_comes_twice(home: Path, numbers: tuple[int, ...]) -> None:
    program = (
        "import sys; from pathlib import Path; from stack.management.commands import up\n"
        "from stack.supervisor import Supervisor\n"
        "stack = Supervisor(home=Path(sys.argv[1]), parts=['postgres', 'shop'], seed_shop=False, quiet=True)\n"
        "wish = up._Wish(stack)\n"
        "with wish.listening():\n"
        "    stack.start(); stack.wait_ready(None, 360); print('ready', flush=True)\n"
        "    up._until(wish, stack); stack.stop()"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(home)], cwd=PROJECT, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"ready\n"
    for number in numbers:
        child.send_signal(number)
    assert child.wait(PATIENCE) == 0
    assert not list(stragglers(home))
    assert not (home / "postgres" / "postmaster.pid").exists()
