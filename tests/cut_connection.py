"""A way to Postgres that breaks at the worst moment: between COMMIT and its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from django.db import connection

from tests.waiting import PATIENCE

Cut = Literal["", "swallow", "answer", "delay"]


class Cutter:
    """A TCP proxy. `cut` says what becomes of the next COMMIT that comes by.

    swallow: it never arrives. answer: it arrives, the answer does not. delay: the client is cut off, and it arrives
    when `release` is set. `is_away` refuses every new connection.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.cut: Cut = ""
        self.is_away = False
        self.then_away = False  # as soon as the cut has been made
        self.release = threading.Event()
        self.has_cut = threading.Event()
        self._target = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """End everything that is open."""
        self.release.set()
        for end in self._sockets:
            _end(end)
        for thread in self._threads:
            thread.join(PATIENCE)
        for end in self._sockets:
            end.close()

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_away:
                    client.close()
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self._start(self._forward, client, server)
                self._start(self._back, server, client)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _end(client)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if self.cut and b"COMMIT\x00" in data:
                    self._strike(data, client, server)
                    break
                server.sendall(data)
        _end(server)

    def _strike(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        cut, self.cut = self.cut, ""
        self.is_away = self.then_away
        for other in self._sockets[1:] if self.is_away else [client]:
            if other is not server:
                _end(other)
        self.has_cut.set()
        if cut == "delay":
            self.release.wait(PATIENCE)
        if cut in ("answer", "delay"):
            server.sendall(data)
            with suppress(OSError):
                server.recv(65536)  # so that it has arrived before the connection ends


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_connection(*, goes_away: bool = False) -> Iterator[Cutter]:
    """Let this thread's connections to the database go through a cutter inside the block.

    `goes_away`: it will be absent, so nobody is to wait for it long.
    """
    settings: dict[str, Any] = connection.settings_dict
    direct = (settings["HOST"], settings["PORT"])
    cutter = Cutter((direct[0], int(direct[1])))
    pool = settings["OPTIONS"]["pool"]
    patient = pool["timeout"]
    pool["timeout"] = 2 if goes_away else PATIENCE  # seconds until an absent server is one
    _reconnect(settings, "127.0.0.1", str(cutter.port))
    try:
        yield cutter
    finally:
        pool["timeout"] = patient
        _reconnect(settings, *direct)
        cutter.close()


def _reconnect(settings: dict[str, Any], host: str, port: str) -> None:
    connection.close()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()
    settings.update({"HOST": host, "PORT": port})
