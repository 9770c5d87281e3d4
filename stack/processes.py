"""One operating-system process that is known to be ours, also after `up` itself was killed.

Facts this relies on:
* A pid alone says nothing: it may have been given to somebody else since. A pid together with the moment
  its process started, and the boot in which that was, names one process for ever.
* Each process leads a session of its own, so Ctrl-C in the terminal reaches only `up`, and one signal to
  the group reaches a process and its children.
* While a dead child has not been reaped, its pid and group id cannot be given away. So we look with
  WNOWAIT, end what is left of the group, and only then reap.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from stack.files import write_atomically

#: Set in every process of a stack to the state folder it belongs to, so that stragglers can be found.
STACK_VARIABLE = "SIGNALBOX_STACK"
_LOG_LIMIT_BYTES = 10_000_000


@dataclass(frozen=True)
class Identity:
    """One process, and no later one that happens to get the same pid."""

    pid: int
    started: str  # opaque; compared for equality only


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def identify(pid: int) -> Identity | None:
    """Return the identity of a living process, `None` when there is none (a zombie is none).

    The moment is counted from the boot, in hundredths of a second: it stays when somebody sets the clock.
    """
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        since_boot = process.create_time() - psutil.boot_time()
    except psutil.Error:
        return None
    return Identity(pid, f"{_boot_id()}:{round(since_boot * 100)}")


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its ended children have used; 0 for one that is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def works_in(identity: Identity, folder: Path) -> bool:
    """Return whether exactly this process still runs, and its working directory is the folder."""
    try:
        return os.path.samefile(psutil.Process(identity.pid).cwd(), folder) and is_alive(identity)
    except (psutil.Error, OSError):
        return False


def is_alive(identity: Identity) -> bool:
    """Return whether exactly this process still runs."""
    return identify(identity.pid) == identity


@dataclass(frozen=True)
class Command:
    """How one process is started."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path  # working directory
    user: str | None = None  # system user to become; only root can
    niceness: int = 0  # above 0: gives way to the others when the machine is busy


@dataclass
class Process:
    """A started or adopted process, its log, and the note in the state folder that says it is ours."""

    name: str
    home: Path
    identity: Identity
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)  # None: adopted, not our child

    @staticmethod
    def record_path(home: Path, name: str) -> Path:
        return home / "run" / f"{name}.json"

    @classmethod
    def launch(cls, name: str, home: Path, command: Command) -> Process:
        """Start the process in a session of its own, with its output appended to `<home>/logs/<name>.log`.

        Raises OSError when it cannot be started or noted; then nothing runs.
        """
        environment = {**command.environment, STACK_VARIABLE: str(home)}
        with open_log(home, name) as log:
            child = subprocess.Popen(
                list(command.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=command.folder,
                env=environment,
                start_new_session=True,
                user=command.user,
                group=_group_of(command.user),
                extra_groups=[] if command.user else None,
                umask=0o077,
            )
        if command.niceness:
            _give_way(child.pid, command.niceness)
        # A child that died at once has no identity any more, but its pid is ours until it is reaped.
        process = cls(name, home, identify(child.pid) or Identity(child.pid, "gone"), child)
        try:
            process.record()
        except BaseException:  # nobody would hold it, and the next try would start another one
            process.reap()
            raise
        return process

    @classmethod
    def recorded(cls, name: str, home: Path) -> Process | None:
        """Return the process that an earlier `up` left running under this name, `None` when it is gone."""
        try:
            kept = json.loads(cls.record_path(home, name).read_text())
            identity = Identity(int(kept["pid"]), str(kept["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(name, home, identity) if is_alive(identity) else None

    @property
    def pid(self) -> int:
        return self.identity.pid

    def record(self) -> None:
        """Note in the state folder that this process is ours."""
        note = {"pid": self.pid, "started": self.identity.started, "name": self.name}
        write_atomically(self.record_path(self.home, self.name), json.dumps(note) + "\n")

    def forget(self) -> None:
        """Take the note back, unless it already speaks of another process."""
        path = self.record_path(self.home, self.name)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text())["pid"] == self.pid:
                path.unlink()

    def is_running(self) -> bool:
        """Return whether it still runs. Does not reap: see the top of this module."""
        if self.child is None:
            return is_alive(self.identity)
        if self.child.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self.child.poll() is None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # another thread has just reaped it
            return False

    def send(self, number: int) -> bool:
        """Send a signal to the process and its group; return whether there was one to send it to."""
        if self.child is not None:
            if self.child.returncode is not None:
                return False
        elif not is_alive(self.identity):
            return False
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS answers this for a group that holds only a zombie
            return False
        return True

    def send_to_leader(self, number: int) -> bool:
        """Send a signal to the process alone, for those that pass it on to their children themselves."""
        if not self.is_running():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until it has ended; return whether it has."""
        deadline = time.monotonic() + timeout_seconds
        while self.is_running():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def reap(self) -> int | None:
        """End what is left of its group and take its exit status, `None` when it was not our child."""
        if self.child is None:
            return None
        if self.child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.forget()
        return self.child.wait()

    def stop(self, number: int, timeout_seconds: float, *, leader_only: bool = False) -> bool:
        """Ask it to end, end it after the timeout, reap it. Return whether it ended when asked."""
        ask = self.send_to_leader if leader_only else self.send
        ask(number)
        ended = self.wait(timeout_seconds)
        if not ended:
            self.send(signal.SIGKILL)
            self.wait(2)
        self.reap()
        self.forget()
        return ended


def _give_way(pid: int, niceness: int) -> None:
    """Let the others go first. Linux may schedule by session, and then only the session's own number counts."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


def open_log(home: Path, name: str) -> IO[bytes]:
    """Open a part's log for appending; one that has grown too long becomes `<name>.log.1` first."""
    path = home / "logs" / f"{name}.log"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_name(path.name + ".1"))
    return path.open("ab")


def stragglers(home: Path) -> Iterator[Identity]:
    """Yield every other living process that was started for this state folder (Linux; elsewhere none).

    Read from /proc/<pid>/environ to its end: psutil stops at the first gap, which a process that has written a title of
    its own leaves there. It finds what no note speaks of: grandchildren in sessions of their own,
    and a process whose `up` was killed between starting it and noting it down.
    """
    marker = f"{STACK_VARIABLE}={home}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if marker in environment.split(b"\0"):
            identity = identify(pid)
            if identity is not None:
                yield identity


def _kin(pid: int) -> set[int]:
    """Return the pids of a process's parent, group leader and session leader."""
    try:
        return {psutil.Process(pid).ppid(), os.getpgid(pid), os.getsid(pid)}
    except (psutil.Error, OSError):
        return set()


def end_stragglers(home: Path, *, spare: set[int]) -> int:
    """End every straggler that is neither in `spare` nor a child of one there; return how many there were."""
    found = [identity for identity in stragglers(home) if not (_kin(identity.pid) | {identity.pid}) & spare]
    for identity in found:
        if is_alive(identity):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(identity.pid, signal.SIGKILL)
    return len(found)
