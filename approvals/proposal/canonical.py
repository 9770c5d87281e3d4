"""The exact bytes of a proposal and their digest. Pure Python: the agent's freeze node and the executor both use it.

Canonical form: RFC 8785 JSON of `{"arguments": {...}, "tool": "..."}`, UTF-8. Digest: SHA-256 of those bytes, hex.

Whole numbers go up to 2^53 - 1 on both sides of zero. JSON itself has no limit, but most that read it do: a browser, a
receiver of the webhook, a workflow in another language would see 9007199254740993 as ...992, and act on that under
the same digest. So a longer number is refused, by its path, and an order number of twenty digits is carried as text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import rfc8785

from console.text.json_text import LARGEST

LIMIT_BYTES = 256 * 1024
LIMIT_DEPTH = 64  # lists and objects inside each other
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # escaped by the canonical form, the backslash itself is not


class NotCanonical(ValueError):
    """The proposal cannot be written exactly; the message says which value and what to do.

    `path`: where the value is, `("lines", 0, "count")`; empty when it is about all of them.
    """

    def __init__(self, sentence: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(sentence)
        self.path = path


def canonicalise(tool: str, arguments: dict[str, Any]) -> bytes:
    """Return the canonical bytes of a proposal.

    Raises NotCanonical for numbers that JSON cannot carry exactly (beyond 2^53 or not finite), for text that is
    not valid Unicode or holds NUL, for values that are not JSON, for more than 256 KiB and for more than 64 levels.
    """
    if not is_shallow(arguments):
        raise NotCanonical(f"The arguments are nested more than {LIMIT_DEPTH} levels deep, which nobody can read.")
    try:
        canonical = _exact_bytes({"tool": tool, "arguments": arguments})
    except NotCanonical as exc:
        raise _located(exc, arguments) from exc
    if len(canonical) > LIMIT_BYTES:
        raise NotCanonical(f"The arguments take {len(canonical):,} bytes; at most {LIMIT_BYTES:,} can be approved.")
    return canonical


def _exact_bytes(value: Any) -> bytes:
    try:
        canonical = rfc8785.dumps(value)
        rfc8785.dumps(json.loads(canonical))  # 2.1e16 is written as a whole number that nobody can read exactly
    except rfc8785.IntegerDomainError as exc:
        raise NotCanonical(f"A whole number beyond 2^53 cannot be approved exactly: send it as text ({exc}).") from exc
    except rfc8785.FloatDomainError as exc:
        raise NotCanonical(f"Infinity and not-a-number cannot be approved: send a number ({exc}).") from exc
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as exc:
        raise NotCanonical(f"The arguments cannot be written as JSON: {exc}.") from exc
    if _NUL.search(canonical):
        raise NotCanonical("A NUL character can neither be shown nor kept: remove it.")
    return bytes(canonical)


def _located(fault: NotCanonical, arguments: Any) -> NotCanonical:
    """Return the same fault with the path of the first value that has one by itself."""
    path: tuple[str | int, ...] = ()
    value = arguments
    while isinstance(value, _NESTS):
        steps: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for step, one in steps:
            try:
                _exact_bytes(one)
            except NotCanonical as exc:
                path, value, fault = (*path, step), one, exc
                break
        else:
            break
    return NotCanonical(str(fault), path)


def is_shallow(value: Any) -> bool:
    """Return whether no part lies too deep; level by level, for recursion would fail on what it is to find."""
    level = [value]
    for _ in range(LIMIT_DEPTH):
        level = [inner for one in level if isinstance(one, _NESTS) for inner in _parts(one)]
    return not any(isinstance(one, _NESTS) for one in level)


_NESTS = (dict, list, tuple)


def _parts(one: Any) -> Any:
    return one.values() if isinstance(one, dict) else one


def touched(names: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return those of the names whose exact value differs between two arguments, a missing one included."""
    return [name for name in names if _exact(before, name) != _exact(after, name)]


def _exact(arguments: Mapping[str, Any], name: str) -> bytes | None:
    return rfc8785.dumps(arguments[name]) if name in arguments else None


def from_jsonb(value: Any) -> Any:
    """Return JSON that PostgreSQL kept, as it was given: 1e21 comes back from `jsonb` in digits, as a whole number.

    No whole number beyond 2^53 was ever taken, so such a one was a fraction's power, and is the same float again.
    """
    if isinstance(value, dict):
        return {key: from_jsonb(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_jsonb(one) for one in value]
    return float(value) if type(value) is int and abs(value) > LARGEST else value


def digest_of(canonical: bytes) -> str:
    """Return the hex SHA-256 of canonical bytes."""
    return hashlib.sha256(canonical).hexdigest()


def read_canonical(canonical: bytes) -> tuple[str, dict[str, Any]]:
    """Return the tool and the arguments that the bytes hold."""
    proposal = json.loads(canonical)
    return proposal["tool"], proposal["arguments"]
