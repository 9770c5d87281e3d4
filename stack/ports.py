"""Free ports on the loopback interface, the same ones again after a restart.

They are chosen below every system's ephemeral range. From inside that range the kernel may hand a port
to an outgoing connection while its server restarts, and a client that retries may even connect to itself.

A server takes its port up to 20 s after it was chosen, and until then the port looks free. Whoever chooses one
therefore holds the UDP port of the same number until its process ends: the kernel gives that to one process only, and
takes it back whatever the process dies of.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from pathlib import Path

from stack.files import write_atomically

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 20_000, 29_999


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of an earlier server that lingers in TIME_WAIT does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def accepts(port: int, host: str = LOOPBACK, timeout_seconds: float = 0.5) -> bool:
    """Return whether something takes connections there."""
    try:
        socket.create_connection((host, port), timeout=timeout_seconds).close()
    except OSError:
        return False
    return True


def free_port(avoid: set[int] | None = None) -> int:
    """Return a port that is free now, that nobody else has chosen and that is not in `avoid`, and hold it."""
    with _CHOOSING:
        for _ in range(1000):
            port = random.randint(_LOWEST, _HIGHEST)
            if port not in _HELD and port not in (avoid or ()) and is_free(port) and _hold(port):
                return port
    raise OSError(f"No free port between {_LOWEST} and {_HIGHEST} on {LOOPBACK}.")


_CHOOSING = threading.RLock()  # several parts of one stack ask at the same time, each with its own `Ports`
_HELD: dict[int, int] = {}  # the port that this process has chosen: the descriptor that holds it


def _hold(port: int) -> bool:
    """Keep a port from everybody else who chooses one. Return whether it is ours."""
    if port in _HELD:
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        try:
            holder.bind((LOOPBACK, port))
        except OSError:
            return False
        _HELD[port] = holder.detach()
    return True


class Ports:
    """The ports of one state folder, remembered in `<home>/ports.json`."""

    def __init__(self, home: Path) -> None:
        self._path = home / "ports.json"

    def remembered(self, name: str) -> int | None:
        """Return the port that `name` had last time, `None` when it never had one."""
        return self._read().get(name)

    def assign(self, name: str) -> int:
        """Return the port of `name` and hold it: the remembered one while nobody else has it, else a new one."""
        with _CHOOSING:
            kept = self._read()
            port = kept.get(name)
            if port is None or not (is_free(port) and _hold(port)):
                port = free_port(avoid=set(kept.values()))
                text = json.dumps({**kept, name: port}, indent=1, sort_keys=True)
                write_atomically(self._path, text + "\n")
            return port

    def _read(self) -> dict[str, int]:
        try:
            kept = json.loads(self._path.read_text())
            return {str(name): int(port) for name, port in kept.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
