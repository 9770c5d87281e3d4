"""Does reading depend on the process, the clock or chance? A validator is the author's code and may do anything.

`watched` reads once and listens which functions are called on the way. Only sets need more: `len(set(v))` is harmless,
`list(set(v))` is another list in each process. So where a validator makes a set, other processes with other hash seeds
read the same bytes, and must write the same (`differs_elsewhere`).
"""

from __future__ import annotations

import datetime
import dis
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from types import CodeType, FrameType
from typing import Any

from pydantic import BaseModel

SEEDS = (1, 2, 3)
SECONDS = 60  # for one of the other processes, its imports included


@dataclass
class CallsSeen:
    """What was called while something was read."""

    unsteady: str = ""  # what makes another value another time, in words; "" when nothing did
    makes_sets: bool = False


_CLOCKS = {time.time: "time.time", time.time_ns: "time.time_ns", time.localtime: "time.localtime"}
_CHANCE = {os.urandom: "os.urandom", os.getpid: "os.getpid"}
_CLOCK_METHODS = frozenset(("now", "utcnow", "today"))
_CHANCE_METHODS = frozenset(("random", "getrandbits"))


def watched(read: Callable[[], Any]) -> tuple[Any, CallsSeen]:
    """Return what `read` returns, and what was called on the way, in this thread."""
    seen = CallsSeen()

    def look(frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call" and not seen.unsteady:
            seen.unsteady = _unsteady(frame, called)
        elif event == "call" and not seen.makes_sets and not _is_of_a_library(frame):
            seen.makes_sets = _makes_a_set(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        return read(), seen
    finally:
        sys.setprofile(before)


def _unsteady(frame: FrameType, called: Any) -> str:
    """Return what was called when it gives another value each time, and by whom; else ""."""
    owner, name = getattr(called, "__self__", None), getattr(called, "__name__", "")
    try:
        words = _CLOCKS.get(called) or _CHANCE.get(called) or ""
    except TypeError:
        words = ""
    if name in _CLOCK_METHODS and isinstance(owner, type) and issubclass(owner, datetime.date):
        words = f"{owner.__name__}.{name}"
    elif name in _CHANCE_METHODS and type(owner).__name__ in ("Random", "SystemRandom"):
        words = "random"
    elif called is hash and not _is_of_a_library(frame) and frame.f_code.co_name != "__hash__":
        words = "hash"
    return f"{words} in {_author_of(frame)}" if words and not _is_logging(frame) else ""


def _author_of(frame: FrameType) -> str:
    """Return the innermost function that is no library's."""
    looked: FrameType | None = frame
    while looked is not None and _is_of_a_library(looked):
        looked = looked.f_back
    return (looked or frame).f_code.co_qualname


def _is_logging(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] in ("logging", "structlog"):
            return True
        frame = frame.f_back
    return False


def _is_of_a_library(frame: FrameType) -> bool:
    root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return root in ("pydantic", "annotated_types") or (root in sys.stdlib_module_names and root != "__main__")


@cache
def _makes_a_set(code: CodeType) -> bool:
    named = {"set", "frozenset"} & {*code.co_names}
    return bool(named) or any(
        one.opname in ("BUILD_SET", "SET_ADD", "SET_UPDATE") for one in dis.get_instructions(code)
    )


def differs_elsewhere(model: type[BaseModel], arguments: dict[str, Any]) -> str:
    """Return why other processes read the written arguments otherwise, in words; "" when they write the same.

    An answer is kept; that none came in time is not, for the next one may.
    """
    try:
        return _differs_elsewhere(f"{model.__module__}:{model.__qualname__}", json.dumps(arguments, sort_keys=True))
    except TimeoutError as exc:
        return str(exc)


@lru_cache(maxsize=64)  # an edit is checked when it is drawn, and again when it is sent
def _differs_elsewhere(place: str, kept: str) -> str:
    if "<locals>" in place or place.startswith("__main__:"):
        return "its checks make a set and are not declared at the top of a module, so nobody else can read it"
    others = [_started(place, seed) for seed in SEEDS]
    answers, is_late = [], False
    for other in others:
        with other:
            try:
                answers.append(other.communicate(kept, timeout=SECONDS))
            except subprocess.TimeoutExpired:
                is_late = True
                other.kill()
    if is_late:
        raise TimeoutError("another process cannot read it: it gave no answer in time")
    for out, err in answers:
        lines = out.splitlines()
        if len(lines) != len(_ORDERS):
            return f"another process cannot read it: {(err.strip().splitlines() or ['it said nothing'])[-1][:200]}"
        if any(json.dumps(json.loads(line), sort_keys=True) != kept for line in lines):
            return "the order of a set is another one in each process"
    return ""


def _started(place: str, seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "orchestration.agents.second_reading", place]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


class _Backwards(set[Any]):
    """A set that is gone through the other way round: two items differ here by chance only in every other process."""

    def __iter__(self) -> Any:
        return reversed(list(super().__iter__()))


_ORDERS = (set, _Backwards)


def main(place: str) -> None:
    """Read arguments from stdin and write them down again, once for each order of a set."""
    import builtins

    from orchestration.agents.arguments import read_back, write_down

    module, _, name = place.partition(":")
    model: Any = import_module(module)
    for step in name.split("."):
        model = getattr(model, step)
    arguments = json.loads(sys.stdin.read())
    lines = []
    for kind in _ORDERS:
        builtins.set = kind  # type: ignore[misc]  # only in this process, which does nothing else
        try:
            lines.append(json.dumps(write_down(read_back(model, arguments))))
        finally:
            builtins.set = _ORDERS[0]  # type: ignore[misc]
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
