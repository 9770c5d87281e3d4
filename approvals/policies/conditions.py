"""Conditions of rules: CEL expressions over the arguments, the agent, the tool, the risk and whether data is stale.

What this relies on, tried with cel-expr-python 0.1.3 (Google's C++ implementation, nothing is executed as Python):

* Names and types are checked when compiled; `args` is a map of unknown types, so its values are checked when asked.
* An error is a value of the type ERROR, not an exception: a missing key, text compared with a number.
* It stops at 32 levels and at 10,000 rounds of `exists` and `all`. `map`, `filter`, `matches` and the joining of
  texts are taken out here, so that nothing grows and no pattern runs.
* A text ends at NUL and a number at 64 bits, silently; such arguments are refused before.
* A fraction in the condition is the nearest double, and 1e400 is infinity, silently; `fault_of_numbers` finds those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from console.text.json_text import NotJson, read_number
from console.text.stored import NUL

LENGTH_LIMIT = 1000  # characters of one condition
LOOPS_LIMIT = 2  # uses of exists or all in one condition
LOOP_VALUES = 1000  # values in the arguments that a condition with a loop looks at
LOOP_BYTES = 32 * 1024  # characters of text in them

#: what a condition may name besides `args`; shown beside the form
FUNCTIONS = ("above", "at_least", "below", "at_most", "same_amount")

_LOOP = re.compile(r"\b(?:all|exists|exists_one|existsOne)\b")
_STALE = re.compile(r"\bstale\b")
_SYNTAX = re.compile(r"Syntax error: (?:mismatched|extraneous|no viable alternative at) input '(.*?)'.*")
_AMOUNT = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_TEXT = re.compile(
    r"""[rR]?(?:'{3}.*?'{3}|"{3}.*?"{3})|[rR]"[^"]*"|[rR]'[^']*'|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", re.DOTALL
)
_FRACTION = re.compile(r"(?<![\w.])(?:[0-9]+\.[0-9]+|\.[0-9]+|[0-9]+(?=[eE][+-]?[0-9]))(?:[eE][+-]?[0-9]+)?")
_LANGUAGE = """
name: conditions
stdlib:
  exclude_macros: [map, filter]
  exclude_functions:
    - name: matches
    - name: "_+_"
      overloads: [{id: add_string}, {id: add_list}, {id: add_bytes}]
"""


class BadCondition(ValueError):
    """The condition cannot be used as written; the message says why."""


class Undecided(Exception):
    """The condition has no answer for these arguments; the message says why."""


@dataclass(frozen=True)
class Values:
    """What conditions look at, measured once for all of them."""

    names: dict[str, Any]  # args, agent, tool, risk and stale
    count: int  # values inside the arguments
    characters: int
    fault: str  # why no condition can be asked about them, "" when all can

    @classmethod
    def of(cls, arguments: dict[str, Any], *, agent: str, tool: str, risk: str) -> Values:
        """Measure the arguments of one proposal."""
        names = {"args": arguments, "agent": agent, "tool": tool, "risk": risk, "stale": False}
        count, characters, fault, waiting = 0, 0, "", [names]
        while waiting:
            value: Any = waiting.pop()
            count += 1
            if isinstance(value, dict):
                waiting += value.keys()
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
            elif isinstance(value, str):
                characters += len(value)
                fault = fault or ("a text holds the character NUL" if NUL in value else "")
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                fault = "a whole number is beyond 64 bits"
        return cls(names, count, characters, fault)


class Condition:
    """One compiled condition; safe to share between threads."""

    def __init__(self, text: str) -> None:
        """Compile the text. Raises BadCondition with what is wrong with it."""
        if len(text) > LENGTH_LIMIT:
            raise BadCondition(f"At most {LENGTH_LIMIT:,} characters; this has {len(text):,}.")
        if not text.isascii() or NUL in text:
            # Compared letter by letter, a look-alike would never match what it looks like.
            raise BadCondition("Use the letters of ASCII; write others as \\u00e9 inside quotes.")
        self.asks_for_age = bool(_STALE.search(text))
        self._loops = len(_LOOP.findall(text))
        if self._loops > LOOPS_LIMIT:
            raise BadCondition(f"At most {LOOPS_LIMIT} uses of exists or all; this has {self._loops}.")
        try:
            self._program = _language().compile(text)
        except RuntimeError as exc:
            raise BadCondition(_in_words(str(exc))) from exc
        if self._program.return_type().name() not in ("BOOL", "DYN"):
            raise BadCondition("This gives a value, not yes or no: compare it with something.")

    def holds(self, values: Values) -> bool:
        """Return whether it holds. Raises Undecided when it has no answer: a missing key, a wrong type, too much."""
        if values.fault:
            raise Undecided(values.fault)
        if self._loops and (values.count > LOOP_VALUES or values.characters > LOOP_BYTES):
            raise Undecided(f"{values.count:,} values of {values.characters:,} characters are too many to go through")
        try:
            answer = self._program.eval(data=values.names)
        except RuntimeError as exc:  # more rounds than the library goes
            raise Undecided(_in_words(str(exc))) from exc
        if answer.type() != cel.Type.BOOL:
            is_error = answer.type() == cel.Type.ERROR
            raise Undecided(_in_words(str(answer.value())) if is_error else "it gives a value, not yes or no")
        return answer.value() is True


def fault_of_numbers(text: str) -> str:
    """Return in a sentence which number of a condition would be another one than is written, "" when none would.

    Asked when a rule is written. One of an older policy means what it has meant.
    """
    for fraction in _FRACTION.findall(_TEXT.sub("''", text)):
        whole, point, rest = fraction.partition(".")
        try:
            read_number((whole.lstrip("0") or "0") + point + rest)
        except NotJson as exc:
            return f"{exc} Compare with a text, by above, at_least, below, at_most or same_amount."
    return ""


def _in_words(told: str) -> str:
    """Return the library's message without its codes and its drawing of the place."""
    first = told.split("\n", 1)[0].strip()
    first = re.sub(r"^[A-Z_]+: |ERROR: | \(in container ''\)| ?\[[A-Z_]+\]$", "", first)
    first = _SYNTAX.sub(lambda at: f"this is not expected here: {at[1].replace('<EOF>', 'the end')}", first)
    first = re.sub(r"^<input>:\d+:(\d+): ", lambda at: f"At character {at[1]}: ", first)
    return first[:300].strip()


def _exact(value: str | int | float) -> Decimal:
    """Return an amount as it is written. Text must be a plain decimal number: no exponent, no spaces, no groups."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise ValueError("not a plain decimal number")
    return Decimal(value)


def _comparison(name: str, holds: Callable[[Decimal, Decimal], bool]) -> Any:
    def compare(one: Any, other: Any) -> bool:
        return holds(_exact(one), _exact(other))

    numbers = {"text": cel.Type.STRING, "int": cel.Type.INT, "double": cel.Type.DOUBLE}
    overloads = [
        cel.Overload(f"{name}_{one}_{other}", cel.Type.BOOL, [numbers[one], numbers[other]], impl=compare)
        for one in numbers
        for other in numbers
    ]
    return cel.FunctionDecl(name, overloads)


@lru_cache(maxsize=1)
def _language() -> Any:
    text = cel.Type.STRING
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_LANGUAGE),
        variables={
            "args": cel.Type("map<string, dyn>"),
            "agent": text,
            "tool": text,
            "risk": text,
            "stale": cel.Type.BOOL,
        },
        functions=[
            _comparison("above", lambda one, other: one > other),
            _comparison("at_least", lambda one, other: one >= other),
            _comparison("below", lambda one, other: one < other),
            _comparison("at_most", lambda one, other: one <= other),
            _comparison("same_amount", lambda one, other: one == other),
        ],
    )
