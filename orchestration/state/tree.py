"""A value as a tree that a page can hold: so many branches, so many letters, and where the rest is asked for. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

TEXT: Final = 600  # characters of one text at first
MORE_TEXT: Final = 20_000  # and each time the rest is asked for
BRANCHES: Final = 40  # of one object or list at first, and each time the rest is asked for
NODES: Final = 300  # of one tree; what is beyond is asked for branch by branch
_OPEN: Final = 2  # levels that are open at first

Path = tuple[str | int, ...]


@dataclass
class Node:
    """One value; `rest` says where what is left out begins, `None` when nothing is."""

    name: str
    path: Path
    kind: str  # object, list, text, number, word (true, false, null)
    text: str = ""
    count: int = 0  # branches, or characters of a text
    branches: list[Node] = field(default_factory=list)
    rest: int | None = None
    is_open: bool = False

    @property
    def at(self) -> str:
        """The path as an address takes it."""
        return json.dumps(list(self.path), ensure_ascii=False)

    @property
    def is_leaf(self) -> bool:
        return self.kind not in ("object", "list")

    @property
    def left(self) -> int:
        return self.count - (self.rest or 0)


def tree_of(value: Any, path: Path = (), name: str = "", *, begin: int = 0, nodes: int = NODES) -> Node:
    """Return the value as a tree of at most `nodes` nodes; `begin`: the first branch or character of it to show."""
    return _node(value, path, name, begin, [nodes], 0)


def _node(value: Any, path: Path, name: str, begin: int, left: list[int], depth: int) -> Node:
    left[0] -= 1
    if isinstance(value, str):
        most = MORE_TEXT if begin else TEXT
        end = begin + most
        return Node(name, path, "text", value[begin:end], len(value), rest=end if end < len(value) else None)
    if not isinstance(value, dict | list):
        kind = "word" if value is None or isinstance(value, bool) else "number"
        return Node(name, path, kind, json.dumps(value))
    node = Node(name, path, "object" if isinstance(value, dict) else "list", count=len(value))
    node.is_open = depth < _OPEN
    shown = begin
    for key, item in islice(_items(value), begin, begin + BRANCHES):
        if left[0] <= 0:
            break
        node.branches.append(_node(item, (*path, key), str(key), 0, left, depth + 1))
        shown += 1
    node.rest = shown if shown < len(value) else None
    return node


def _items(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str | int, Any]]:
    return iter(value.items()) if isinstance(value, dict) else iter(enumerate(value))


def at_path(value: Any, path: list[Any]) -> Any:
    """Return what stands at the path. Raises LookupError when nothing does."""
    for step in path:
        is_key = isinstance(value, dict) and isinstance(step, str)
        is_place = isinstance(value, list) and type(step) is int and step >= 0
        if not (is_key or is_place):
            raise LookupError(f"There is nothing at {step!r}.")
        value = value[step]
    return value
