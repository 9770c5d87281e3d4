"""The whole stack on one machine: starts all parts in the right order, keeps them running, stops them.

    postgres ─┬─ database (migrations, LangGraph's tables) ─┬─ web, then relay
    shop      │                                             ├─ worker   (also needs temporal)
    temporal ─┘                                             └─ flows    (also needs prefect)
    prefect      once web, worker and relay are there, or some seconds later

`manage.py up` installs signal handlers around it and prints. The drills use it directly:

    with Supervisor(home=folder, port=8123, workers=2, time_skipping=True, quiet=True) as stack:
        stack.wait_ready()
        stack.kill("worker", signal.SIGKILL)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from console import postgres_refusal, prepared
from console.environment import without_credentials
from stack import ports, prefect
from stack.console_parts import Loop, OutsideEngine, Shop, Web
from stack.errors import PartFailed, PortTaken, StackError, Stopped
from stack.files import last_lines
from stack.postgres import APP_ROLE, Postgres
from stack.prefect import CLIENT_ENVIRONMENT, Prefect
from stack.processes import Command, Process, end_stragglers
from stack.runner import Runner
from stack.services import PROJECT, Service, inherited_environment
from stack.state import Addresses, DoneOnce, FolderLock, Outside, make_home
from stack.temporal import Temporal
from stack.terminal import Terminal

ENGINES = ("postgres", "temporal", "prefect")
CONSOLE_PARTS = ("web", "worker", "relay", "flows", "shop")
ALL_PARTS = (*ENGINES, *CONSOLE_PARTS)
_USE_TABLES = {"web", "worker", "relay", "flows"}

_STOP_CONSOLE_SECONDS = 5.0
_STOP_ENGINES_SECONDS = 4.5
_SIGN_OF_LIFE_SECONDS = 15.0


class Supervisor:
    """One stack on one state folder."""

    def __init__(
        self,
        *,
        home: Path,
        port: int = 8000,
        environment: Mapping[str, str | None] | None = None,
        parts: Sequence[str] = ALL_PARTS,
        workers: int = 1,
        time_skipping: bool = False,
        demo_accounts: bool | None = False,
        demo_runs: bool = False,
        seed_shop: bool = True,
        quiet: bool = False,
        terminal: Terminal | None = None,
    ) -> None:
        """Describe a stack; nothing is touched before `start`.

        `environment`: changes to this process's environment, for every part; `None` removes a variable.
        `parts`: those to start; an engine whose address is in the environment is waited for, not started.
        `workers`: how many worker processes: "worker", "worker-2", "worker-3" ...
        `time_skipping`: lets a drill move a workflow's clock on the Temporal server.
        `demo_accounts`: make alice, bob, olga, ada and eve; `None`: unless the database came from outside.
        `demo_runs`: start the first runs, once in the life of the state folder.
        """
        unknown = set(parts) - set(ALL_PARTS)
        if unknown:
            raise ValueError(f"No such part: {', '.join(sorted(unknown))}.")
        self.home = home.expanduser().absolute()
        self.web_port = port
        self.terminal = terminal or Terminal(quiet=quiet)
        self._changes = dict(environment or {})
        self._parts = tuple(parts)
        self._workers = workers
        self._time_skipping = time_skipping
        self._demo_accounts = demo_accounts
        self._demo_runs = demo_runs
        self._seed_shop = seed_shop
        self._outside = Outside.read(self._inherited())
        self._addresses = Addresses()
        self._runners: dict[str, Runner] = {}
        self._jobs: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._database_ready = threading.Event()
        self._accounts_ready = threading.Event()
        self._fatal: StackError | None = None
        self._hurrying = False
        self._began = time.monotonic()
        self._write_lock = threading.Lock()
        self._started = False

    # Where things are.

    @property
    def database_url(self) -> str:
        return self._addresses.database_url

    @property
    def owner_database_url(self) -> str:
        """Of the role that may do everything with the tables, also where one role does all."""
        return self._addresses.owner_database_url or self._addresses.database_url

    @property
    def temporal_address(self) -> str:
        return self._addresses.temporal_address

    @property
    def temporal_namespace(self) -> str:
        return self._addresses.temporal_namespace

    @property
    def prefect_api_url(self) -> str:
        return self._addresses.prefect_api_url

    @property
    def web_url(self) -> str:
        return self._addresses.web_url

    @property
    def shop_url(self) -> str:
        return self._addresses.shop_url

    def pids(self) -> dict[str, int]:
        """Return part -> pid of what runs now; each is also the id of its process group."""
        return {name: pid for name, runner in self._runners.items() if (pid := runner.service.pid) is not None}

    def environment(self) -> dict[str, str]:
        """Return the environment that web, worker and relay get; also right for `manage.py` beside them."""
        addresses = self._addresses
        values = {
            "SIGNALBOX_HOME": str(self.home),
            "PORT": str(self.web_port),
            "DATABASE_URL": addresses.database_url,
            "TEMPORAL_ADDRESS": addresses.temporal_address,
            "TEMPORAL_NAMESPACE": addresses.temporal_namespace,
            "PREFECT_API_URL": addresses.prefect_api_url,
            "SIGNALBOX_SHOP_URL": addresses.shop_url,
            **CLIENT_ENVIRONMENT,
        }
        inherited = self._inherited()
        inherited.pop("SIGNALBOX_OWNER_DATABASE_URL", None)  # commands that migrate find it in `stack.json`
        for name in self._not_for_ours(inherited):
            del inherited[name]
        in_address = without_credentials(inherited.get("PREFECT_API_URL", ""))[1]
        if in_address:  # the parts get the address alone
            inherited.setdefault("PREFECT_API_AUTH_STRING", in_address)
        if self._is_demo():  # whoever tries it out has a program on this machine
            inherited.setdefault("SIGNALBOX_WEBHOOKS_TO_PRIVATE", "1")
            inherited.setdefault("SIGNALBOX_SIGNALS", "*")
        return inherited | {name: value for name, value in values.items() if value}

    def _not_for_ours(self, inherited: Mapping[str, str]) -> list[str]:
        """Return the variables that say how to get into somebody else's engine where the stack runs its own."""
        elsewhere = {"TEMPORAL_": self._outside.temporal_address, "PREFECT_API_": self._outside.prefect_api_url}
        ours = tuple(prefix for prefix, address in elsewhere.items() if not address)
        return [name for name in inherited if name.startswith(ours)]

    def _is_demo(self) -> bool:
        """Return whether there are demo accounts: as asked for, or else unless the database came from outside."""
        return not self._outside.database_url if self._demo_accounts is None else self._demo_accounts

    def _flows_environment(self) -> dict[str, str]:
        """Return the flow process's environment: a flow must not be able to reach Temporal."""
        environment = {name: value for name, value in self.environment().items() if not name.startswith("TEMPORAL_")}
        if not self._outside.prefect_api_url:
            environment["PREFECT_HOME"] = str(self.home / "prefect")
        return environment

    def _shop_environment(self) -> dict[str, str]:
        return self._inherited() | {"SHOP_DATABASE": str(self.home / "shop.sqlite3")}

    def _inherited(self) -> dict[str, str]:
        environment = inherited_environment()
        for name, value in self._changes.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        return environment

    # Start, wait, stop.

    def start(self) -> None:
        """Take the state folder, end what an earlier stack left, and set everything in motion.

        Returns as soon as the parts are starting; `wait_ready` waits.
        Raises AlreadyRunning, PortTaken, or PartFailed for a state folder that cannot be written, before anything was
        started.
        """
        self._began = time.monotonic()
        try:
            self._start()
        except OSError as error:
            raise PartFailed(f"Signalbox cannot start on the state folder {self.home}: {error}.") from error
        self._started = True

    def _start(self) -> None:
        self.home = make_home(self.home)
        self._lock = FolderLock(self.home)
        self._lock.take()
        try:
            engines = self._make_engines()
            self._clear_leftovers(engines)
            if "web" in self._parts and not ports.is_free(self.web_port):
                raise PortTaken(
                    f"Port {self.web_port} is in use by another program. "
                    f"Stop it or choose another: PORT={self.web_port + 1} make run"
                )
            self._run_all(engines)
        except BaseException:
            self._lock.release()
            raise

    def wait_ready(self, parts: Iterable[str] | None = None, timeout_seconds: float = 120.0) -> None:
        """Wait until these parts (all of them, when not given) do their work.

        The time begins anew while any part does what it needs once, such as building the Temporal server.
        Raises PartFailed with what is known about the first that does not, Stopped when stopped meanwhile.
        """
        deadline = time.monotonic() + timeout_seconds
        for name in list(parts) if parts is not None else list(self._runners):
            runner = self._runner(name)
            while not runner.ready.wait(0.05):
                self._raise_if_over()
                if not runner.is_alive():
                    raise PartFailed(f"{name} was given up. {runner.failure or ''}")
                if any(one.preparing for one in self._runners.values()):
                    deadline = time.monotonic() + timeout_seconds
                elif time.monotonic() >= deadline:
                    reason = runner.failure or f"Its log is {runner.service.log_path}."
                    raise PartFailed(f"{name} was not ready after {timeout_seconds:.0f} s. {reason}")

    def stop(self) -> None:
        """Stop everything within 10 s, our processes first and the engines last. Leaves no process."""
        if not self._started:
            return
        self._stopping.set()
        self._end([name for name in self._runners if name not in ENGINES], _STOP_CONSOLE_SECONDS)
        for job in self._jobs:
            job.join(2)
        self._end([name for name in self._runners if name in ENGINES], _STOP_ENGINES_SECONDS)
        end_stragglers(self.home, spare=set())
        self._note_pids()
        self._started = False
        self._lock.release()

    def hurry(self) -> None:
        """Make a `stop` that is under way end everything at once. Safe to call from a signal handler."""
        self._hurrying = True

    @property
    def is_started(self) -> bool:
        return self._started

    @property
    def fatal(self) -> StackError | None:
        """Why the stack cannot go on, `None` while it can."""
        return self._fatal

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # For drills.

    def kill(self, part: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the part's whole process group; return the pid. It is restarted unless held.

        For postgres only the postmaster gets it, as an operator would do it: SIGQUIT is `immediate`.
        Raises PartFailed when the part does not run.
        """
        runner = self._runner(part)
        process = runner.service.process
        sent = process is not None and (process.send_to_leader(number) if part == "postgres" else process.send(number))
        if process is None or not sent:
            raise PartFailed(f"{part} does not run, so it cannot be killed.")
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            runner.ready.clear()
        return process.pid

    def hold(self, part: str, number: int | None = None, timeout_seconds: float = 120.0) -> None:
        """Keep a part down until `release`: stopped in good order, or by a signal to its group when given."""
        runner = self._runner(part)
        runner.hold(killing=number is not None)
        if number is not None:
            with contextlib.suppress(PartFailed):  # it was down already
                self.kill(part, number)
        deadline = time.monotonic() + timeout_seconds
        while runner.service.pid is not None or runner.ready.is_set():
            if time.monotonic() >= deadline:
                raise PartFailed(f"{part} still runs after {timeout_seconds:.0f} s.")
            time.sleep(0.02)

    def release(self, part: str) -> None:
        """Let a held part start again; does not wait."""
        self._runner(part).release()

    def restart(self, part: str, timeout_seconds: float = 60.0) -> None:
        """Stop a part in good order, start it again and wait until it is ready."""
        self._runner(part).restart()
        self.wait_ready([part], timeout_seconds)

    def _runner(self, part: str) -> Runner:
        try:
            return self._runners[part]
        except KeyError:
            raise PartFailed(f"{part} is no part of this stack.") from None

    # Putting it together.

    def _make_engines(self) -> dict[str, Service]:
        """Build each wanted engine: ours, or a stand-in that waits for somebody else's."""
        outside, home = self._outside, self.home
        made: dict[str, Service] = {}
        if outside.database_url:
            made["postgres"] = OutsideEngine(
                home,
                "postgres",
                _without_password(outside.database_url),
                lambda: postgres_refusal.refusal(outside.database_url),
            )
        elif "postgres" in self._parts:
            made["postgres"] = Postgres(home)
        if outside.temporal_address:
            made["temporal"] = OutsideEngine(
                home, "temporal", outside.temporal_address, lambda: _temporal_fault(self._inherited())
            )
        elif "temporal" in self._parts:
            made["temporal"] = Temporal(home, namespace=outside.temporal_namespace, time_skipping=self._time_skipping)
        if outside.prefect_api_url:
            made["prefect"] = OutsideEngine(
                home,
                "prefect",
                outside.prefect_api_url,
                lambda: prefect.refusal(outside.prefect_api_url, outside.prefect_authorization),
            )
        elif "prefect" in self._parts:
            made["prefect"] = Prefect(home)
        return made

    def _clear_leftovers(self, engines: Mapping[str, Service]) -> None:
        """End what an earlier `up` left behind, except the engines that this one will take over.

        1. Ask our own processes to stop, all at once; kill what does not. 2. Stop engines that are not
        wanted any more. 3. Kill whatever else still runs for this folder.
        """
        recorded = [path.stem for path in (self.home / "run").glob("*.json")]
        orphans = [
            process
            for name in recorded
            if name not in ENGINES and (process := Process.recorded(name, self.home)) is not None
        ]
        for process in orphans:
            process.send_to_leader(signal.SIGTERM)
        deadline = time.monotonic() + 3
        for process in orphans:
            process.stop(signal.SIGTERM, max(0.0, deadline - time.monotonic()), leader_only=True)
        unwanted: dict[str, Service] = {
            "postgres": Postgres(self.home),
            "temporal": Temporal(self.home),
            "prefect": Prefect(self.home),
        }
        spare = set()
        for name, service in unwanted.items():
            wanted = engines.get(name)
            if wanted is not None and not isinstance(wanted, OutsideEngine):
                left = wanted.leftover()
                spare |= {left.pid} if left is not None else set()
            elif service.adopt():
                self.terminal.part(name, "of an earlier start still ran and is not wanted now: stopped")
                service.stop()
        ended = len(orphans) + end_stragglers(self.home, spare=spare)
        if ended:
            self.terminal.line(f"  An earlier start was cut off; ended {ended} of its processes.")

    def _run_all(self, engines: dict[str, Service]) -> None:
        assigned = ports.Ports(self.home)
        self._addresses = Addresses(
            database_url=self._outside.database_url,
            owner_database_url=self._outside.owner_database_url if self._outside.database_url else "",
            temporal_address=self._outside.temporal_address,
            temporal_namespace=self._outside.temporal_namespace,
            prefect_api_url=self._outside.prefect_api_url,
            shop_url=self._outside.shop_url,
        )
        for service in engines.values():
            if isinstance(service, Postgres):
                self._addresses.database_url = service.url(user=APP_ROLE)
                self._addresses.owner_database_url = service.url()
            elif isinstance(service, Temporal):
                self._addresses.temporal_address = service.address
            elif isinstance(service, Prefect):
                self._addresses.prefect_api_url = service.api_url
        if "web" in self._parts:
            self._addresses.web_url = f"http://{ports.LOOPBACK}:{self.web_port}"
        shop_port = assigned.assign("shop") if "shop" in self._parts and not self._outside.shop_url else None
        if shop_port is not None:
            self._addresses.shop_url = f"http://{ports.LOOPBACK}:{shop_port}"
        if not self._addresses.database_url and set(self._parts) & _USE_TABLES:
            raise PartFailed("A stack without postgres needs DATABASE_URL.")

        for name in ("postgres", "temporal"):
            if name in engines:
                self._add(engines[name], needs=(), fatal=self._give_up if name == "postgres" else None)
        if shop_port is not None:
            self._add(Shop(self.home, self._shop_environment, shop_port), needs=())
        after_database = (self._database_ready,)
        if "web" in self._parts:
            processes = int(self._inherited().get("SIGNALBOX_WEB_PROCESSES") or 0)
            self._add(Web(self.home, self.environment, self.web_port, processes), needs=after_database)
        if "worker" in self._parts:
            for name in ("worker", *(f"worker-{number}" for number in range(2, self._workers + 1))):
                self._add(self._loop(name, "run_worker"), needs=(*after_database, *self._ready_events("temporal")))
        if "relay" in self._parts:
            self._add(self._loop("relay", "run_relay"), needs=after_database, gives_way_to=self._ready_events("web"))
        if "prefect" in engines:
            first = self._ready_events("web", "worker", "relay")
            self._add(engines["prefect"], needs=(), gives_way_to=first)
        if "flows" in self._parts:
            self._add(self._loop("flows", "serve_flows"), needs=(*after_database, *self._ready_events("prefect")))
        self._note_pids()
        for runner in self._runners.values():
            runner.start()
        if "postgres" in self._runners and set(self._parts) & _USE_TABLES:
            self._job("database", self._prepare_database, needed=True)
        if shop_port is not None and self._seed_shop:
            self._job("seed", self._fill_shop)
        if self._demo_runs:
            self._job("demo-runs", self._start_demo_runs)
        if "worker" in self._parts and self._inherited().get("SIGNALBOX_AGENTS"):
            self._job("agents", self._check_agents)

    def _loop(self, name: str, command: str) -> Loop:
        environment = self._flows_environment if name == "flows" else self.environment
        return Loop(self.home, environment, name, command, self._addresses.database_url)

    def _ready_events(self, *parts: str) -> tuple[threading.Event, ...]:
        return tuple(self._runners[part].ready for part in parts if part in self._runners)

    def _add(
        self,
        service: Service,
        *,
        needs: Sequence[threading.Event],
        gives_way_to: Sequence[threading.Event] = (),
        fatal: Callable[[StackError], None] | None = None,
    ) -> None:
        self._runners[service.name] = Runner(
            service,
            needs=needs,
            gives_way_to=gives_way_to,
            say=self._say_part,
            changed=self._note_pids,
            fatal=fatal,
        )

    def _say_part(self, name: str, text: str, seconds: float | None = None) -> None:
        if not self._stopping.is_set():
            self.terminal.part(name, text, seconds)

    def _note_pids(self) -> None:
        with self._write_lock:
            self._addresses.pids = self.pids()
            with contextlib.suppress(OSError):  # the disk is full, or the folder was removed under us
                self._addresses.write(self.home)

    def _end(self, names: Sequence[str], timeout_seconds: float) -> None:
        """Stop these parts at the same time; kill what is left after the timeout, or at once in a hurry."""
        for name in names:
            self._runners[name].end()
        deadline = time.monotonic() + timeout_seconds
        while alive := [self._runners[name] for name in names if self._runners[name].is_alive()]:
            if self._hurrying or time.monotonic() >= deadline:
                for runner in alive:
                    process = runner.service.process
                    if process is not None:
                        process.send(signal.SIGKILL)
                if time.monotonic() >= deadline:
                    return
            alive[0].join(0.05)

    def _give_up(self, error: StackError) -> None:
        self._fatal = self._fatal or error

    def _raise_if_over(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._stopping.is_set():
            raise Stopped("The stack was told to stop.")

    # What happens once: the database, the shop's orders, the accounts, the first runs.

    def _job(self, name: str, work: Callable[[], None], *, needed: bool = False) -> None:
        """Do this once, beside the parts. What is `needed` and cannot be done ends the stack."""

        def guarded() -> None:
            try:
                work()
            except Stopped:
                pass
            except StackError as error:
                self._give_up(error)
            except OSError as error:  # the disk is full, or a folder cannot be written
                if needed:
                    self._give_up(PartFailed(f"{name} could not be set up: {error}."))
                else:
                    self._say_part(name, f"could not be done: {error}")

        job = threading.Thread(target=guarded, name=f"job-{name}", daemon=True)
        self._jobs.append(job)
        job.start()

    def _await(self, event: threading.Event) -> None:
        while not event.wait(0.1):
            self._raise_if_over()

    def _prepare_database(self) -> None:
        """Bring the tables up to date, then let everything start that needs them. A failure here is final."""
        self._await(self._runners["postgres"].ready)
        began = time.monotonic()
        postgres = self._runners["postgres"].service
        if isinstance(postgres, Postgres):
            self._while_postgres_lasts(postgres.ensure_app_role)
        if not prepared.is_up_to_date(self.owner_database_url):
            self._while_postgres_lasts(self._migrate)
        self._say_part("database", "up to date", time.monotonic() - began)
        self._database_ready.set()
        (self.home / "logs" / "create_demo_accounts.log").unlink(missing_ok=True)  # of earlier versions: with passwords
        if self._is_demo() and not self.accounts_path.exists():
            self.run_command(
                "create_demo_accounts",
                *("manage.py", "create_demo_accounts", "--file", str(self.accounts_path)),
            )
        self._accounts_ready.set()

    def _migrate(self) -> None:
        """Bring the tables up to date, however long that takes: cut off, it would begin anew at every start."""
        self.run_command("prepare_database", "manage.py", "prepare_database", timeout_seconds=math.inf, part="database")

    def _while_postgres_lasts(self, work: Callable[[], None]) -> None:
        """Do what needs the database; do it again when that went away meanwhile."""
        postgres = self._runners["postgres"]
        for _ in range(5):
            self._await(postgres.ready)
            server = postgres.service.pid
            try:
                return work()
            except PartFailed:
                if postgres.ready.is_set() and postgres.service.pid == server:
                    raise
        raise PartFailed("PostgreSQL went away again and again while it was set up. Its log is in the state folder.")

    def _fill_shop(self) -> None:
        done = DoneOnce(self.home)
        if "shop-seeded" in done:
            return
        self._await(self._runners["shop"].ready)
        try:
            self.run_command("shop-seed", "-m", "examples.shop.seed", "--url", self._addresses.shop_url)
        except PartFailed as error:
            self._say_part("shop", f"has no orders yet: {error}")
        else:
            done.add("shop-seeded")

    def _start_demo_runs(self) -> None:
        """Start the first runs, so that the inbox of a first boot is not empty. They want the handbook."""
        done = DoneOnce(self.home)
        if "demo-runs" in done:
            return
        for name in ("web", "worker", "relay", "shop", "flows"):
            if name in self._runners:
                self._await(self._runners[name].ready)
        began = time.monotonic()
        try:
            self.run_command("demo-runs", "manage.py", "start_demo_runs", timeout_seconds=600)
        except PartFailed as error:
            self._say_part("demo", f"runs were not started; the next start tries again. {error}")
        else:
            done.add("demo-runs")
            self._say_part("demo", "runs started: the inbox fills now", time.monotonic() - began)

    def _check_agents(self) -> None:
        """Say which of the agents that the person named cannot be used; the rest works without them."""
        self._await(self._database_ready)
        try:
            self.run_command("check_agents", "manage.py", "check_agents")
        except PartFailed as error:
            # Before it stands what the agents' own code has printed.
            log = last_lines(self.home / "logs" / "check_agents.log", 100)
            self._say_part("agents", log.rpartition("CommandError: ")[2] or str(error))

    def run_command(self, name: str, *argv: str, timeout_seconds: float = 180.0, part: str = "") -> None:
        """Run one of our Python commands to its end with the stack's environment, its output in a log.

        `part`: under whose name it is said now and then that the command still runs; "" says nothing.
        Raises PartFailed when it cannot be started, fails (with the end of the log) or takes too long, Stopped when the
        stack stops meanwhile.
        """
        try:
            process = Process.launch(name, self.home, Command([sys.executable, *argv], self.environment(), PROJECT))
        except OSError as error:
            raise PartFailed(f"{name} could not be started: {error}.") from error
        path = self.home / "logs" / f"{name}.log"
        began = spoken = time.monotonic()
        while not process.wait(0.1):
            now = time.monotonic()
            if self._stopping.is_set() or now - began >= timeout_seconds:
                process.stop(signal.SIGTERM, 1.0)
                self._raise_if_over()
                raise PartFailed(f"{name} took longer than {timeout_seconds:.0f} s.")
            if part and now - spoken >= _SIGN_OF_LIFE_SECONDS:
                spoken = now
                self._say_part(part, f"still being set up, {now - began:.0f} s; the log is {path}")
        status = process.reap()
        if status != 0:
            raise PartFailed(f"{name} failed. The end of {path}:\n{last_lines(path)}")

    # What the person reads.

    @property
    def accounts_path(self) -> Path:
        return self.home / "demo-accounts.json"

    def announce_when_usable(self) -> None:
        """Wait until the page is worth opening, then print its address and the accounts.

        Returns at once when the stack is stopped or cannot go on.
        """
        while not self._usable():
            if self._stopping.wait(0.2) or self._fatal is not None:
                return
        terminal = self.terminal
        terminal.line()
        seconds = time.monotonic() - self._began
        terminal.line(f"  Signalbox is ready after {seconds:.1f} s:  {terminal.strong(self.web_url + '/')}")
        accounts = self.demo_accounts()
        if accounts:
            terminal.line()
            terminal.table(
                [
                    ("sign in as", "password", "role"),
                    *((one["username"], one["password"], ", ".join(one["roles"]) or "none") for one in accounts),
                ]
            )
            terminal.line(f"  Their API tokens are in {self.accounts_path}")
        waiting = [name for name, runner in self._runners.items() if not runner.ready.is_set()]
        if waiting:
            terminal.line()
            terminal.line(f"  Still starting: {', '.join(waiting)}. The page works meanwhile and says so.")
        terminal.line()
        terminal.line(f"  Logs are in {self.home / 'logs'}. Ctrl-C stops everything; the state stays.")
        terminal.line()

    def _usable(self) -> bool:
        if not self._accounts_ready.is_set() or "web" not in self._runners:
            return False
        if not self._runners["web"].ready.is_set():
            return False
        try:
            with urllib.request.urlopen(f"{self.web_url}/api/v1/health", timeout=2) as answer:
                return json.loads(answer.read()).get("status") in ("ok", "degraded")
        except (OSError, ValueError):
            return False

    def demo_accounts(self) -> list[dict[str, str]]:
        """Return the demo accounts as `demo-accounts.json` has them, `[]` when there are none."""
        try:
            accounts = json.loads(self.accounts_path.read_text())
        except (OSError, ValueError):
            return []
        return list(accounts)


def _temporal_fault(variables: Mapping[str, str]) -> str:
    """Return why nobody can work on the Temporal that these variables name, "" when one can."""
    from console.temporal_connection import CannotConnect, configured, connect

    try:
        asyncio.run(connect(configured(variables)))
    except CannotConnect as error:
        return str(error)
    return ""


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}"
