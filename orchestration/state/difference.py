"""What changed between two states, path by path. Pure.

An object is compared key by key. A list is compared from both its ends, so that what was appended is one addition; what
lies between is compared place by place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from console.text.json_paths import step_of

MOST: Final = 2_000  # changes that are told
_DEEPEST: Final = 60
_NOTHING: Final = object()


@dataclass(frozen=True)
class StateChange:
    """One path; `before` and `after` are `None` where it does not exist."""

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[StateChange]:
    """Return at most MOST changes, in the order of the keys."""
    return list(islice(_between(before, after, "", 0), MOST))


def _between(before: Any, after: Any, path: str, depth: int) -> Iterator[StateChange]:
    if before is _NOTHING:
        yield StateChange(path, "added", None, after)
    elif after is _NOTHING:
        yield StateChange(path, "removed", before, None)
    elif isinstance(before, dict) and isinstance(after, dict) and depth < _DEEPEST:
        for key in [*before, *(key for key in after if key not in before)]:
            place = path + step_of(str(key), path)
            yield from _between(before.get(key, _NOTHING), after.get(key, _NOTHING), place, depth + 1)
    elif isinstance(before, list) and isinstance(after, list) and depth < _DEEPEST:
        yield from _lists(before, after, path, depth)
    elif not _same(before, after):
        yield StateChange(path, "changed", before, after)


def _lists(before: list[Any], after: list[Any], path: str, depth: int) -> Iterator[StateChange]:
    shorter = min(len(before), len(after))
    head = next((at for at in range(shorter) if not _same(before[at], after[at])), shorter)
    most = shorter - head
    tail = next((at for at in range(most) if not _same(before[-1 - at], after[-1 - at])), most)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    for at in range(max(len(old), len(new))):
        one = old[at] if at < len(old) else _NOTHING
        other = new[at] if at < len(new) else _NOTHING
        yield from _between(one, other, f"{path}[{head + at}]", depth + 1)


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are the same; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(item, other[key]) for key, item in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)
