"""The difference between two arguments, path by path, each value as its exact JSON; texts are marked word by word.

Two values are the same when their canonical JSON (RFC 8785) is: 1 and 1.0 are, 1, "1" and true are not. Items of lists
are matched by value, so that one inserted item is one addition. Texts with line breaks are compared line by line.

`difflib` can take hours on texts of 256 KiB. All comparing of one difference shares `MOST_STEPS`, about 0.1 s; what is
left over is shown as wholly replaced between its common start and end.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, product, zip_longest
from typing import Any, Literal

import rfc8785

MOST_STEPS = 400_000  # comparisons of two tokens
MOST_LINES = 5_000  # of a text that is compared by line
AROUND = 3  # unchanged lines shown around a changed one; the others are folded
_MOST_PAIRS = 2_500  # items of two lists that are weighed against each other
_DEEPEST = 100  # levels; deeper values are compared as a whole

Mark = Literal["same", "removed", "added"]
Kind = Literal["same", "changed", "removed", "added"]


@dataclass(frozen=True)
class Part:
    """A piece of a text: on both sides the same, or only on one of them."""

    mark: Mark
    text: str
    note: str = ""  # what the eye would miss: which blanks, which code points


@dataclass(frozen=True)
class Line:
    """One line of a text; a line that only changed in part is one removed and one added line."""

    mark: Mark
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Block:
    """Lines that stand together; `is_folded`: unchanged ones, far from any change."""

    lines: tuple[Line, ...]
    is_folded: bool

    @property
    def text(self) -> str:
        """The lines as they are, for those that are folded."""
        return "\n".join("".join(part.text for part in line.parts) for line in self.lines)


@dataclass(frozen=True)
class Change:
    """One path with its exact JSON before and after; `None` where it does not exist."""

    path: str  # an item that moved has both indices: lines[1→2].sku
    kind: Kind
    before: str | None
    after: str | None
    before_parts: tuple[Part, ...] = ()
    after_parts: tuple[Part, ...] = ()
    blocks: tuple[Block, ...] = ()  # instead of the parts when both are texts and one has line breaks


def diff(before: Any, after: Any) -> list[Change]:
    """Return every path of both, in the order of the first; what is new follows what it stands beside."""
    return list(_Comparing().values(before, after, "", 0))


class _TooMuch(Exception):
    """The steps are used up."""


_MISSING = object()
_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
#: an escape, a number with its signs (an amount, a date, a time: it changes as a whole), a word, or one character
_TOKEN = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|\d[\w.,:/+-]*\w|\w+|\s|[^\w\s]")


class _Comparing:
    """One difference, with the steps it may still take."""

    def __init__(self) -> None:
        self.left = MOST_STEPS

    def values(self, before: Any, after: Any, path: str, depth: int) -> Iterator[Change]:
        one = after if before is _MISSING else before
        other = before if after is _MISSING else after
        if depth < _DEEPEST:
            if _are(dict, one, other) and (one or other):
                yield from self._keys(before, after, path, depth + 1)
                return
            if _are(list, one, other) and (one or other):
                yield from self._items(before, after, path, depth + 1)
                return
        yield self._change(before, after, path)

    def _keys(self, before: Any, after: Any, path: str, depth: int) -> Iterator[Change]:
        left, right = (side if side is not _MISSING else {} for side in (before, after))
        for key in [*left, *(key for key in right if key not in left)]:
            yield from self.values(left.get(key, _MISSING), right.get(key, _MISSING), _below(path, key), depth)

    def _items(self, before: Any, after: Any, path: str, depth: int) -> Iterator[Change]:
        left, right = (side if side is not _MISSING else [] for side in (before, after))
        for old, new in self._pairs(left, right):
            name = str(new) if old is None else str(old) if new is None or old == new else f"{old}→{new}"
            item = _MISSING if old is None else left[old]
            changed = _MISSING if new is None else right[new]
            yield from self.values(item, changed, f"{path}[{name}]", depth)

    def _pairs(self, left: list[Any], right: list[Any]) -> Iterator[tuple[int | None, int | None]]:
        """Return which items belong together: equal ones first, then those between that have most in common."""
        for code, start, end, new_start, new_end in self._bounded([*map(_key, left)], [*map(_key, right)]):
            if code == "equal":
                yield from zip(range(start, end), range(new_start, new_end), strict=True)
                continue
            for old, new in _alike(left[start:end], right[new_start:new_end]):
                yield None if old is None else start + old, None if new is None else new_start + new

    def _change(self, before: Any, after: Any, path: str) -> Change:
        old, new = (None if side is _MISSING else _exact(side) for side in (before, after))
        if old is None or new is None:
            kind: Kind = "added" if old is None else "removed"
            return Change(path, kind, old, new, _whole("removed", old), _whole("added", new))
        if _key(before) == _key(after):
            return Change(path, "same", old, new, _whole("same", old), _whole("same", new))
        if not _are(str, before, after):
            return Change(path, "changed", old, new, _whole("removed", old), _whole("added", new))
        if 0 < max(before.count("\n"), after.count("\n")) < MOST_LINES:
            return Change(path, "changed", old, new, blocks=tuple(_folded(self._lines(before, after))))
        return Change(path, "changed", old, new, *self.words(old, new))

    def words(self, before: str, after: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Mark the words of two texts, on both sides."""
        left, right = _TOKEN.findall(before), _TOKEN.findall(after)
        old: list[Part] = []
        new: list[Part] = []
        for code, start, end, new_start, new_end in _calm(self._bounded(left, right), left):
            gone, came = "".join(left[start:end]), "".join(right[new_start:new_end])
            if code == "equal":
                old += _whole("same", gone)
                new += _whole("same", came)
                continue
            if gone:
                old.append(Part("removed", gone, _unseen(gone, came)))
            if came:
                new.append(Part("added", came, _unseen(came, gone)))
        return tuple(old), tuple(new)

    def _lines(self, before: str, after: str) -> Iterator[Line]:
        left, right = before.split("\n"), after.split("\n")
        for code, start, end, new_start, new_end in self._bounded(left, right):
            gone, came = left[start:end], right[new_start:new_end]
            if code == "equal":
                yield from (Line("same", (Part("same", text),)) for text in gone)
                continue
            marked = [self.words(old, new) for old, new in zip(gone, came, strict=False)]
            yield from _whole_lines("removed", gone, [parts for parts, _ in marked])
            yield from _whole_lines("added", came, [parts for _, parts in marked])

    def _bounded(self, left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[str, int, int, int, int]]:
        """Return difflib's opcodes, or "equal, replace, equal" when there is too much to compare."""
        try:
            return self.opcodes(left, right)
        except _TooMuch:
            start, end = _common(left, right)
            tail = (len(left) - end, len(left), len(right) - end, len(right))
            return [("equal", 0, start, 0, start), ("replace", start, tail[0], start, tail[2]), ("equal", *tail)]

    def opcodes(self, left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[str, int, int, int, int]]:
        """Return what difflib says of the two. Raises _TooMuch when the steps do not last."""
        start, end = _common(left, right)
        matcher = _Matcher(self, left[start : len(left) - end], right[start : len(right) - end])
        inner = [(code, a + start, b + start, c + start, d + start) for code, a, b, c, d in matcher.get_opcodes()]
        tail = ("equal", len(left) - end, len(left), len(right) - end, len(right))
        found = [("equal", 0, start, 0, start), *inner, tail]
        return [codes for codes in found if codes[1] < codes[2] or codes[3] < codes[4]]


class _Matcher(SequenceMatcher[Any]):
    """difflib's matcher, which counts what it does and stops in time."""

    def __init__(self, of: _Comparing, left: Sequence[Hashable], right: Sequence[Hashable]) -> None:
        self._of = of
        self._left = left
        self._costs = Counter(right)
        super().__init__(None, left, right, autojunk=False)

    def find_longest_match(self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None) -> Any:
        end = len(self._left) if ahi is None else ahi
        self._of.left -= sum((1 + self._costs[self._left[at]] for at in range(alo, end)), 0)
        if self._of.left < 0:
            raise _TooMuch
        return super().find_longest_match(alo, ahi, blo, bhi)


def _common(left: Sequence[Hashable], right: Sequence[Hashable]) -> tuple[int, int]:
    """Return how many items are the same at the start and at the end."""
    shorter = min(len(left), len(right))
    start = next((at for at in range(shorter) if left[at] != right[at]), shorter)
    rest = shorter - start
    return start, next((at for at in range(rest) if left[-1 - at] != right[-1 - at]), rest)


def _calm(codes: list[tuple[str, int, int, int, int]], left: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Join changes with nothing but blanks between them: three words that changed are one change."""
    calm: list[tuple[str, int, int, int, int]] = []
    for place, (code, *ends) in enumerate(codes):
        is_between = 0 < place < len(codes) - 1 and not "".join(left[ends[0] : ends[1]]).strip()
        code = "replace" if code == "equal" and is_between else code
        if calm and code != "equal" and calm[-1][0] != "equal":
            calm[-1] = ("replace", calm[-1][1], ends[1], calm[-1][3], ends[3])
        else:
            calm.append((code, ends[0], ends[1], ends[2], ends[3]))
    return calm


def _alike(left: list[Any], right: list[Any]) -> list[tuple[int | None, int | None]]:
    """Pair items in order so that they have most in common; the others are removed or added."""
    if len(left) * len(right) > _MOST_PAIRS:
        return list(zip_longest(range(len(left)), range(len(right))))
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, j in product(reversed(range(len(left))), reversed(range(len(right)))):
        best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + _in_common(left[i], right[j]))
    found: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if best[i][j] == best[i + 1][j + 1] + _in_common(left[i], right[j]):
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            found.append((i, None))
            i += 1
        else:
            found.append((None, j))
            j += 1
    return found + [(rest, None) for rest in range(i, len(left))] + [(None, rest) for rest in range(j, len(right))]


def _in_common(one: Any, other: Any) -> float:
    if _are(dict, one, other):
        return 0.5 + sum(1 for key in one if key in other and one[key] == other[key])
    return 0.5 if type(one) is type(other) else 0.1


def _whole_lines(mark: Mark, texts: list[str], marked: list[tuple[Part, ...]]) -> Iterator[Line]:
    """Return lines as they were marked, those beyond as wholly removed or added."""
    for place, text in enumerate(texts):
        parts = marked[place] if place < len(marked) else ()
        yield Line(mark, parts or (Part(mark, text, _unseen(text, "")),))


def _are(kind: type, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _below(path: str, key: str) -> str:
    if not _PLAIN_KEY.fullmatch(key):
        return f"{path}[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def _exact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _key(value: Any) -> bytes:
    try:
        canonical: bytes = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError):  # refused as a proposal, and still comparable
        return json.dumps(value, sort_keys=True).encode()
    return canonical


def _whole(mark: Mark, text: str | None) -> tuple[Part, ...]:
    return () if not text else (Part(mark, text),)


def _unseen(text: str, other: str) -> str:
    """Say what a marked piece is when the eye would not see it: blanks, or what only looks like the other side."""
    if not text:
        return "empty line"
    if not text.strip(" \t\n"):
        return ", ".join(_counted(_BLANKS[char], len(list(same))) for char, same in groupby(text))
    looks = unicodedata.normalize("NFKC", text)
    if other and looks == unicodedata.normalize("NFKC", other):
        return " ".join(f"U+{ord(char):04X}" for char in text[:40]) + (" …" if len(text) > 40 else "")
    ends = len(text) - len(text.rstrip(" \t"))
    return f"{_counted('blank', ends)} at its end" if ends and text.rstrip(" \t") == other.rstrip(" \t") else ""


_BLANKS = {" ": "space", "\t": "tab", "\n": "line break"}


def _counted(what: str, count: int) -> str:
    return what if count == 1 else f"{count:,} {what}s"


def _folded(lines: Iterable[Line]) -> Iterator[Block]:
    """Fold unchanged lines that are far from any change; all of them stay on the page."""
    runs = [(mark == "same", tuple(run)) for mark, run in groupby(lines, key=lambda line: line.mark)]
    for place, (is_same, run) in enumerate(runs):
        above = AROUND if place else 0
        below = AROUND if place < len(runs) - 1 else 0
        if not is_same or len(run) <= above + below + 2:
            yield Block(run, is_folded=False)
            continue
        parts = ((run[:above], False), (run[above : len(run) - below], True), (run[len(run) - below :], False))
        yield from (Block(part, is_folded) for part, is_folded in parts if part)
