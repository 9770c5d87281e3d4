"""Find a Temporal server, or get one: from the cache, the PATH, the SDK's download, or Go.

Two kinds run here: the production server, built from its Go module, and the command-line tool with its
`server start-dev`, which is the same server in another wrapping. Each writes its own database file, and neither reads
the other's: what runs on a state folder that has workflows is the kind that wrote them.

What is fetched or built goes to the user's cache folder, so that a second checkout need not do it again:
`$SIGNALBOX_CACHE`, else `$XDG_CACHE_HOME/signalbox`, else `~/.cache/signalbox`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stack.cache import cache_root
from stack.errors import NoTemporalServer, Stopped
from stack.files import last_lines
from stack.services import Cancelled, Say

VERSION = "1.32.1"  # 1.32.2 needs a newer Go than most machines have
VERSION_TAG = f"v{VERSION}"
MODULE = "go.temporal.io/server"
_PACKAGES = 1_754  # that are compiled for it, the standard library's too

_PATIENCE_WITHOUT_NETWORK_SECONDS = 8.0
_LONGEST_DOWNLOAD_SECONDS = 300.0
_LONGEST_BUILD_SECONDS = 1800.0
_SIGN_OF_LIFE_SECONDS = 15.0

WAYS = f"""\
There is no Temporal server, and none of the ways to get one worked. Any one of these four helps:
  1. Set TEMPORAL_ADDRESS=host:port to a server of your own: a cluster, Temporal Cloud, or a dev server.
  2. Put a server binary into the cache: {{cache}}/temporal-server
  3. Install Temporal's command-line tool, so that `temporal` is on the PATH. With access to the internet
     the Temporal SDK downloads it by itself; the attempt just now failed.
  4. Install Go 1.26.8 or newer; the server (version {VERSION}) is then built once, in about four minutes."""


Kind = Literal["server", "cli"]

#: For each kind its name, and what a person can do to get exactly it.
WAYS_TO: dict[Kind, tuple[str, str]] = {
    "server": (
        "production server",
        f"""\
  1. Put a server binary (version {VERSION}) into the cache: {{cache}}/temporal-server
  2. Install Go 1.26.8 or newer; the server is then built once, in about four minutes.""",
    ),
    "cli": (
        "command-line tool",
        """\
  1. Install Temporal's command-line tool, so that `temporal` is on the PATH.
  2. Give this machine access to the internet; the Temporal SDK then downloads the tool by itself.""",
    ),
}


@dataclass(frozen=True)
class Binary:
    """A program that is a Temporal server."""

    path: Path
    kind: Kind


def cache_folder() -> Path:
    """Return where the binary is kept between checkouts; need not exist."""
    return cache_root() / f"temporal-server-{VERSION}"


def find_or_get(say: Say, cancelled: Cancelled, kept: tuple[Kind, Path] | None = None) -> Binary:
    """Return a Temporal server, getting one if need be.

    1. Look into the cache. 2. Look for `temporal` on the PATH.
    3. Let the SDK download it. 4. Build it with Go.
    3 and 4 hold a lock, so that two starts on one machine do the work once.

    `kept`: the kind that wrote the workflows in this database file; no other kind is taken.
    Raises NoTemporalServer with what a person can do, when every way fails or the cache cannot be written.
    """
    only = kept[0] if kept else None
    found = _cached(only) or (_on_path(say) if only != "server" else None)
    if found:
        return found
    cache = cache_folder()
    fault = ""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "lock", say, cancelled):
            found = _cached(only)
            if found is None and only != "server":
                found = _downloaded(cache, say, cancelled)
            if found is None and only != "cli":
                found = _built(cache, say, cancelled)
    except OSError as error:
        fault = f"The cache cannot be used: {error}. SIGNALBOX_CACHE names another folder.\n"
    if found:
        return found
    raise NoTemporalServer(fault + _what_helps(kept, cache))


def _what_helps(kept: tuple[Kind, Path] | None, cache: Path) -> str:
    if kept is None:
        return WAYS.format(cache=cache)
    kind, file = kept
    name, ways = WAYS_TO[kind]
    return (
        f"The workflows of this state folder are in {file}. Only Temporal's {name} reads it, and none of the ways to\n"
        "get that worked. Another server would begin without them. Any one of these three helps:\n"
        f"{ways.format(cache=cache)}\n"
        f"  3. Give these workflows up: move {file.parent} away. Their runs are then closed as lost."
    )


def _cached(only: Kind | None) -> Binary | None:
    server, cli = cache_folder() / "temporal-server", cache_folder() / "temporal"
    if only != "cli" and _runs(server):
        return Binary(server, "server")
    return Binary(cli, "cli") if only != "server" and _runs(cli) else None


def _on_path(say: Say) -> Binary | None:
    found = shutil.which("temporal")
    if found is None or not _runs(Path(found)):
        return None
    say(f"using {found}")
    return Binary(Path(found), "cli")


def _runs(path: Path) -> bool:
    """Return whether the file is a program for this machine. A shared home may hold another machine's."""
    if not os.access(path, os.X_OK) or not path.is_file():
        return False
    try:
        return subprocess.run([str(path), "--version"], capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


# The SDK fetches the tool as part of starting a server from it, so it is made to do both, in a process that
# can be ended. It has no time limit of its own for an address that does not answer.
_DOWNLOAD = """
import asyncio, sys
from temporalio.testing import WorkflowEnvironment

async def main():
    server = await WorkflowEnvironment.start_local(download_dest_dir=sys.argv[1])
    await server.shutdown()

asyncio.run(main())
"""


def _downloaded(cache: Path, say: Say, cancelled: Cancelled) -> Binary | None:
    """Let the SDK download the command-line tool. `None` when there is no network, said in one line."""
    say("no server found; asking the Temporal SDK to download one")
    with _scratch(cache) as folder:
        log = folder / "log"
        began = time.monotonic()

        def hopeless() -> str:
            elapsed = time.monotonic() - began
            if not any(path.name != "log" for path in folder.iterdir()) and (
                elapsed > _PATIENCE_WITHOUT_NETWORK_SECONDS
            ):
                return "nothing arrived"
            return "it took too long" if elapsed > _LONGEST_DOWNLOAD_SECONDS else ""

        failure = _run_visibly(
            [sys.executable, "-c", _DOWNLOAD, str(folder)],
            log=log,
            environment=dict(os.environ),
            doing="downloading",
            say=say,
            cancelled=cancelled,
            hopeless=hopeless,
        )
        tools = [path for path in folder.iterdir() if path.name != "log" and _runs(path)]
        if tools:
            return Binary(_keep(tools[0], cache / "temporal"), "cli")
        reason = failure if failure != "it failed" else "no network" if _no_network(log) else failure
        say(f"no download: {reason or 'it brought no program'}")
        return None


def _no_network(log: Path) -> bool:
    return "error sending request" in last_lines(log, 3)


def _built(cache: Path, say: Say, cancelled: Cancelled) -> Binary | None:
    """Build the server from its Go module. `None` when that is not possible, said in one line."""
    go = shutil.which("go")
    if go is None:
        say("no build: Go is not installed")
        return None
    package = f"{MODULE}/cmd/server@{VERSION_TAG}"
    with _scratch(cache) as folder:
        log = folder / "log"
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH")},
            "GOBIN": str(folder / "bin"),
        }
        began = time.monotonic()
        # Asks for one small file, so that a machine without network learns it in seconds, not minutes.
        failure = _run_visibly(
            [go, "list", "-m", f"{MODULE}@{VERSION_TAG}"],
            log=log,
            environment=environment,
            doing="looking for the Go module",
            say=say,
            cancelled=cancelled,
            hopeless=lambda: "nothing arrived" if time.monotonic() - began > 20 else "",
        )
        if failure:
            say(f"no build: the Go module could not be found ({failure}): {_last_line(log)}")
            return None
        say(f"building server {VERSION} with Go, once for this machine; about four minutes")
        began = time.monotonic()
        log = folder / "packages"  # one line for each that is compiled, besides a few for what is fetched
        # A smaller program of our own saves nothing: the server's library itself needs 1,748 of the 1,754 packages.
        failure = _run_visibly(
            [go, "install", "-v", "-ldflags=-s -w", package],  # without what only a debugger reads
            log=log,
            environment=environment,
            doing="building",
            progress=lambda: f"{_lines(log):,} of about {_PACKAGES:,} packages",
            say=say,
            cancelled=cancelled,
            hopeless=lambda: "it took too long" if time.monotonic() - began > _LONGEST_BUILD_SECONDS else "",
        )
        binary = folder / "bin" / "server"
        if failure or not _runs(binary):
            say(f"no build: {failure or 'it made no program'}: {_last_line(log)}")
            return None
        say(f"built in {time.monotonic() - began:.0f} s, kept in {cache}")
        return Binary(_keep(binary, cache / "temporal-server"), "server")


def _lines(log: Path) -> int:
    """Return how many packages a log of Go's names: a line each, beside the modules that it downloads first."""
    with log.open("rb") as lines:
        return sum(not line.startswith(b"go: ") for line in lines)


def _last_line(log: Path) -> str:
    return last_lines(log, 1).strip()[:300]


def _keep(binary: Path, place: Path) -> Path:
    """Move a finished program to its place in one step; others see all of it or nothing."""
    binary.chmod(0o755)
    binary.replace(place)
    return place


def _run_visibly(
    argv: list[str],
    *,
    log: Path,
    environment: dict[str, str],
    doing: str,
    say: Say,
    cancelled: Cancelled,
    hopeless: Callable[[], str],
    progress: Callable[[], str] = lambda: "",
) -> str:
    """Run a program that may take minutes, with a sign of life now and then; `progress`: how far it is, in words.

    `hopeless` is asked several times a second and gives the reason to stop waiting, or "".
    Returns "" when the program succeeded, else why not. Raises Stopped when `cancelled`.
    """
    began = spoken = time.monotonic()
    with log.open("ab") as output:
        # A group of its own: Go starts compilers, and all must end together.
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=log.parent,
            start_new_session=True,
        )
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return "" if child.wait(0.2) == 0 else "it failed"
            if cancelled():
                raise Stopped(f"Stopped while {doing}.")
            reason = hopeless()
            if reason:
                return reason
            now = time.monotonic()
            if now - spoken >= _SIGN_OF_LIFE_SECONDS:
                spoken = now
                far = progress()
                say(f"still {doing}{f': {far}' if far else ''}, {now - began:.0f} s")
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """Give a folder inside the cache, on the same file system, and remove it afterwards."""
    folder = cache / f"new-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(lock: Path, say: Say, cancelled: Cancelled) -> Iterator[None]:
    """Wait until no other start on this machine fetches or builds."""
    began = spoken = time.monotonic()
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                pass
            if cancelled():
                raise Stopped("Stopped while another start was getting the server.")
            now = time.monotonic()
            if spoken == began or now - spoken >= _SIGN_OF_LIFE_SECONDS:
                spoken = now
                say(f"another start on this machine is getting the server; waiting, {now - began:.0f} s")
            time.sleep(0.3)
        for leftover in lock.parent.glob("new-*"):  # of a start that was killed; we hold the lock
            shutil.rmtree(leftover, ignore_errors=True)
        yield
