"""Look for a stranger's pattern in texts, in bounded time and memory.

Neither reading a pattern nor going through a text can be bounded from inside: 200 groups that repeat each other took
8 GB before the first letter was looked at. So it is done by another process (`pattern_worker`), which the system ends
when it takes too much. One that has answered is kept for the next check; one that was ended is not missed.
"""

from __future__ import annotations

import atexit
import json
import selectors
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_WORKER = Path(__file__).with_name("pattern_worker.py")
_KEPT_AT_MOST = 2  # that wait for the next check
_PATIENCE = 60.0  # seconds on the wall, for a process that gets no time at all on a busy machine
_idle: list[_Worker] = []


class Late(Exception):
    """The search took more time than it had, or was ended for it."""


class Unusable(ValueError):
    """The pattern cannot be searched for; the message says why, as the end of a sentence about it."""


class Searcher:
    """Searches for one check: `with Searcher() as searcher`. Used by one thread."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.is_idle and len(_idle) < _KEPT_AT_MOST:
            _idle.append(worker)
        else:
            worker.end()

    def search(self, pattern: str, texts: Sequence[str], seconds: float) -> tuple[list[bool], float]:
        """Return for each text whether the pattern is found in it, and the seconds of work that it took.

        Raises Late, Unusable, and OSError when no process can be had.
        """
        if self._worker is not None and not self._worker.is_idle:  # it was ended over an earlier search
            self._worker.end()
            self._worker = None
        if self._worker is None:
            self._worker = _taken()
        answer = self._worker.ask({"pattern": pattern, "texts": list(texts), "seconds": seconds})
        match answer.get("fault"):
            case "late":
                raise Late
            case "memory":
                raise Unusable("takes too much memory")
            case "unreadable":
                raise Unusable("cannot be read")
        return answer["found"], answer["spent"]


class _Worker:
    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-I", str(_WORKER)]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.is_idle = True

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises Late when the process was ended over it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout  # they are pipes
        self.is_idle = False
        try:
            print(json.dumps(request), file=stdin, flush=True)
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                line = stdout.readline() if selector.select(_PATIENCE) else ""
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise Late
        self.is_idle = True
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _taken() -> _Worker:
    """Return a process that waits, or a new one."""
    while _idle:
        try:
            worker = _idle.pop()
        except IndexError:  # another thread was first
            break
        if worker.is_alive:
            return worker
        worker.end()
    return _Worker()


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()
