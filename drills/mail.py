"""A mail system that takes every message, counts them by order, and can hold one. It knows no idempotency key."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
from collections import Counter
from pathlib import Path

from drills.holds import Hold, When
from stack import ports

_SUBJECT = re.compile(rb"^Subject: Your order (\S+)\r?$", re.MULTILINE)
_NAME = re.compile(rb"^Message-ID: (\S+)", re.MULTILINE | re.IGNORECASE)
_REMINDER = re.compile(rb"/approvals/(apr_\w+)/")


class MailSystem:
    """A small SMTP server in a thread; each message it accepts is a file in the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.counts: Counter[str] = Counter()  # order id -> messages accepted
        self._known: set[bytes] = set()  # Message-IDs of reminders
        self.reminders: Counter[str] = Counter()  # approval id -> reminders accepted
        self._holds: list[Hold] = []  # that nothing has reached yet
        self._made: list[Hold] = []
        self._lock = threading.Lock()
        self._server = socketserver.ThreadingTCPServer((ports.LOOPBACK, 0), self._conversation())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"smtp://{ports.LOOPBACK}:{self._server.server_address[1]}"

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        threading.Thread(target=self._server.serve_forever, name="mail", daemon=True).start()

    def stop(self) -> None:
        for hold in self._made:
            hold.released.set()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, order_id: str, when: When) -> Hold:
        """Hold the next message about this order."""
        hold = Hold("MAIL", order_id, when)
        self._holds.append(hold)
        self._made.append(hold)
        return hold

    def take(self, message: bytes) -> None:
        """Accept one message; returns when the sender may be told so."""
        if reminder := _REMINDER.search(message):
            with self._lock:
                if (name := _NAME.search(message)) and name.group(1) in self._known:
                    return  # sent again by who did not hear that it was taken: a mailbox shows one
                self._known.update(name.groups() if name else ())
                self.reminders[reminder.group(1).decode()] += 1
            return
        found = _SUBJECT.search(message)
        order_id = found.group(1).decode() if found else ""
        hold = next((hold for hold in self._holds if hold.order_id == order_id), None)
        if hold is not None:
            self._holds.remove(hold)
            if hold.when == "before":
                hold.wait()
        with self._lock:
            self.counts[order_id] += 1
            (self._folder / f"{order_id}-{self.counts[order_id]}.eml").write_bytes(message)
        if hold is not None and hold.when == "after":
            hold.wait()

    def _conversation(self) -> type[socketserver.StreamRequestHandler]:
        take = self.take

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):  # the sender was killed meanwhile
                    self._converse()

            def _converse(self) -> None:
                self._say("220 drill")
                while line := self.rfile.readline():
                    match line[:4].upper().strip():
                        case b"DATA":
                            self._say("354 go on")
                            take(b"".join(self._message()))
                            self._say("250 taken")
                        case b"QUIT":
                            self._say("221 bye")
                            return
                        case _:
                            self._say("250 ok")

            def _message(self) -> list[bytes]:
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line)
                return lines

            def _say(self, words: str) -> None:
                self.wfile.write(f"{words}\r\n".encode())

        return Conversation
