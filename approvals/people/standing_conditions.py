"""Conditions over a proposal's arguments, as a standing approval keeps them.

Each path of the arguments is named by one condition: `{"path", "is": JSON}` exactly this, `{"path", "one_of": [JSON]}`
one of these, or `{"path", "at_most": "100.00"}` a number, or a text that is one, from zero up to this. A path that no
condition names, and one that is not there, match nothing: what nobody foresaw is approved by nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from approvals.errors import InvalidChange
from console.text.json_paths import leaves_of

RULES: Final = ("is", "at_most", "one_of")
MOST_VALUES: Final = 20
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)

Condition = dict[str, Any]


class InvalidCondition(InvalidChange):
    """A condition cannot be taken; `field` is the path of the argument, "" for all of them."""


def cover(conditions: Sequence[Condition], arguments: dict[str, Any]) -> bool:
    """Return whether the conditions name exactly the arguments' paths and every value is as its condition says."""
    leaves = dict(leaves_of(arguments))
    if len(conditions) != len(leaves) or {condition["path"] for condition in conditions} != set(leaves):
        return False
    return all(_holds(condition, leaves[condition["path"]]) for condition in conditions)


def check(conditions: Sequence[Condition], arguments: dict[str, Any]) -> None:
    """Refuse conditions that are not whole, or that the very request they are made from would not meet.

    Raises InvalidCondition with the path at fault as its field.
    """
    leaves = dict(leaves_of(arguments))
    for condition in conditions:
        path = condition["path"]
        rules = [rule for rule in RULES if rule in condition]
        if path not in leaves or len(rules) != 1:
            raise InvalidCondition(path, "Say one thing of each argument, and only of those that are there.")
        if "at_most" in condition and not _DECIMAL.fullmatch(str(condition["at_most"])):
            raise InvalidCondition(path, "Write the most that is allowed as a plain number, such as 100.00.")
        if "one_of" in condition and not 1 <= len(condition["one_of"]) <= MOST_VALUES:
            raise InvalidCondition(path, f"Name 1 to {MOST_VALUES} values.")
        if not _holds(condition, leaves[path]):
            raise InvalidCondition(path, "The request that this is made from would not be allowed itself.")
    if {condition["path"] for condition in conditions} != set(leaves) or len(conditions) != len(leaves):
        raise InvalidCondition("", "Every argument has to be named, each once.")


def is_number(exact: str) -> bool:
    """Return whether a leaf can be bounded: a number or a text that is one, not below zero."""
    return _number(exact) is not None


def in_words(condition: Condition) -> str:
    """Return what a condition says of its path: `is "EUR"`."""
    if "at_most" in condition:
        return f"at most {condition['at_most']}"
    if "one_of" in condition:
        return "is " + " or ".join(_exact(value) for value in condition["one_of"])
    return f"is {_exact(condition['is'])}"


def _holds(condition: Condition, exact: str) -> bool:
    if "at_most" in condition:
        number = _number(exact)
        return number is not None and number <= Decimal(condition["at_most"])
    allowed = condition["one_of"] if "one_of" in condition else [condition["is"]]
    return exact in {_exact(value) for value in allowed}


def _number(exact: str) -> Decimal | None:
    value = json.loads(exact)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = value if isinstance(value, str) else exact
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def _exact(value: Any) -> str:
    """1, 1.0, true and "1" are four values, as they are in the canonical bytes."""
    return json.dumps(value, ensure_ascii=False)
