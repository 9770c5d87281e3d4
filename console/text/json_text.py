"""JSON as people read and type it: exact numbers, no character that hides, bounded in size and depth."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

from console.text.stored import holds_half

LIMIT_BYTES = 256 * 1024
LARGEST = 2**53 - 1  # the largest whole number that every reader of JSON reads exactly
MOST_KEYS = 5_000  # keys and items of one value, all levels together
DEEPEST = 64  # levels
_LONGEST_NUMBER = 300  # characters

WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


class NotJson(ValueError):
    """The text cannot be read as JSON, or not exactly; the message says why, in a sentence."""


def read_json(text: str) -> Any:
    """Return the value that a typed JSON text holds, unchanged to the last digit. Raises NotJson."""
    if len(text.encode(errors="surrogatepass")) > LIMIT_BYTES:
        raise NotJson(f"This is longer than {LIMIT_BYTES // 1024} KiB, which is the most that can be kept.")
    value = read_exactly(text)
    if fault := size_fault(value):
        raise NotJson(fault)
    return value


def read_exactly(text: str) -> Any:
    """Return the value that a JSON text of any size holds, if no digit and no key of it would be lost.

    Raises NotJson.
    """
    try:
        return json.loads(
            text,
            parse_int=read_number,
            parse_float=read_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_each_key_once,
        )
    except json.JSONDecodeError as exc:
        raise NotJson(f"This is no JSON: line {exc.lineno}, column {exc.colno}: {exc.msg.lower()}.") from exc
    except RecursionError as exc:
        raise NotJson(_too_deep()) from exc


def read_number(text: str) -> int | float:
    """Return a number in JSON's own notation. Raises NotJson when no digit may be lost and one would be."""
    if not NUMBER.fullmatch(text):
        raise NotJson("Type a number in digits, like 12 or 3.5.")
    if len(text) > _LONGEST_NUMBER:
        raise NotJson(f"A number can have at most {_LONGEST_NUMBER} digits.")
    if WHOLE.fullmatch(text):
        return int(text)
    nearest = float(text)
    try:
        is_exact = Decimal(repr(nearest)) == Decimal(text)
    except ArithmeticError:
        is_exact = False
    if not is_exact:
        raise NotJson(f"{text[:40]} cannot be kept exactly: it would become {nearest!r}.")
    return nearest


def beyond_every_reader(value: Any, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the path of a number beyond LARGEST, or that is none, () when all can be kept.

    PostgreSQL's JSON gives 1e21 back in digits, as a whole number, and 1e23 then is another one.
    """
    if isinstance(value, dict | list):
        parts: Any = value.items() if isinstance(value, dict) else enumerate(value)
        return next((found for step, one in parts if (found := beyond_every_reader(one, (*path, str(step))))), ())
    return path if isinstance(value, int | float) and not abs(value) <= LARGEST else ()


BEYOND = "a number beyond 2^53 (9007199254740992) cannot be kept exactly: send it as text"


def write_json(value: Any, *, indent: int | None = None) -> str:
    """Return the value as JSON text; characters that would not show are written as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    hidden = {char for char in set(text) if char != "\n" and not _shows(char)}
    return re.sub("[" + re.escape("".join(sorted(hidden))) + "]", _escape, text) if hidden else text


def depth_fault(body: Any) -> str:
    """Return a sentence when a whole body has more levels than one that holds what has DEEPEST by itself, else ""."""
    most = DEEPEST + 8
    level = [body]
    for _ in range(most + 1):
        level = [below for one in level for below in _parts(one)]
        if not level:
            return ""
    return _too_deep(most)


def _parts(one: Any) -> Any:
    return one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def size_fault(value: Any) -> str:
    """Return a sentence when the value has too many keys or levels or half a character, else ""."""
    keys = 0
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
                if any(holds_half(key) for key in one):
                    return _BROKEN
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str) and holds_half(one):
                return _BROKEN
        keys += len(below)
        if keys > MOST_KEYS:
            return f"This holds more than {MOST_KEYS:,} keys and items, which is the most that can be edited."
        if not below:
            return ""
        level = below
    return _too_deep()


_BROKEN = "This holds half of a character (a lone surrogate), which cannot be kept: remove it."


def _too_deep(most: int = DEEPEST) -> str:
    return f"This is nested more than {most} levels deep, which is the most that can be read."


def _refuse_constant(name: str) -> None:
    raise NotJson(f"{name} is no number that JSON knows.")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise NotJson(f"The key {json.dumps(key[:60], ensure_ascii=False)} stands twice in one object.")
        found[key] = value
    return found


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]


#: Printable to Unicode, and yet nothing is seen.
_BLANK = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def _shows(char: str) -> bool:
    return char.isprintable() and not _BLANK.match(char)
