"""Hold a JSON value against a JSON Schema, in bounded time, and say in sentences what does not fit.

Schemas come from tools that others wrote. What they could do to us, and what prevents it:
- a reference to another machine: the registry below fetches nothing;
- a pattern that never ends or fills the memory: patterns are looked for by a process that is ended (`patterns`);
- branches that multiply: every keyword and every step into a part counts as work, of which there is so much, and
  every error of a branch as one of so many that are kept;
- many slow checks at once: SLOW_AT_ONCE of them have this process, the others are told to come again;
- quadratic keywords (`enum`, `uniqueItems`): replaced by sets of canonical keys;
- a part that names a dialect of its own, whose keywords would not be ours: it is checked by ours all the same;
- the schema's own check, which is one of a value against the dialect's schema: it runs by the same rules.
"""

from __future__ import annotations

import ipaddress
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime
from datetime import time as time_of_day
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Any, Final

import attrs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend, validator_for
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from console.forms.patterns import Late, Searcher, Unusable
from console.forms.schema_shape import scope_of
from console.refusals import Refused
from console.text.json_text import write_json

SECONDS = 2.0  # of this thread's own work, for one value, all keywords and patterns together
_SECONDS_FOR_SCHEMA = 5.0  # the same, for a schema, once
STEPS = 2_000_000  # keywords looked at, for one value or one schema
MOST_ERRORS = 20_000  # about 2 KB each, and those of a branch are kept until all branches were looked at
SLOW_AFTER = 0.25  # of the SECONDS
SLOW_AT_ONCE = 2  # checks of this process
MOST_PARTS = 20_000  # lists, objects and values in a schema
DEEPEST = 100  # lists and objects inside each other
_LONGEST_PATTERN = 4_000  # characters
_MOST = 200  # faults told
_SHOWN = 120  # characters of a schema's own words inside a sentence

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Fault:
    """One thing that does not fit: where, and a sentence for a person."""

    path: Path
    sentence: str


NOT_KNOWN: Final = "This is not known here: leave it out."


class BrokenSchema(ValueError):
    """The schema itself cannot be used; the message says why, in a sentence."""


class SchemaBusy(Refused):
    """Others' schemas take long just now; trying again can help."""

    http_status = 429
    title = "Too many"

    def facts(self) -> dict[str, Any]:
        return {"retry_after_seconds": 5}

    def __init__(self) -> None:
        super().__init__(
            f"{SLOW_AT_ONCE} slow schemas are being checked just now, and this one is slow as well. Nothing was begun."
            " Send it again in some seconds, or make the schema simpler."
        )


class _OutOfTime(Exception):
    """The work is over."""


_slow = threading.BoundedSemaphore(SLOW_AT_ONCE)


@dataclass
class Work:
    """How much may still be done for one value."""

    ends: float  # by time.thread_time(): what else the machine does counts for nothing
    slow_from: float  # by the same
    searcher: Searcher | None = None  # for patterns of strangers, `None` while only our own dialects' are looked for
    steps: int = 0
    errors: int = 0
    is_slow: bool = False
    choices: dict[int, set[str]] = field(default_factory=dict)  # of each `enum` that was met, by the list's id

    def step(self) -> None:
        """Count one step. Raises _OutOfTime when there were too many, or the time is over, and SchemaBusy."""
        self.steps += 1
        now = time.thread_time()
        if self.steps > STEPS or now > self.ends:
            raise _OutOfTime
        if now > self.slow_from and not self.is_slow:
            self.become_slow()

    def error(self) -> None:
        """Count one error. Raises _OutOfTime when there were too many, and as `step` does."""
        self.errors += 1
        if self.errors > MOST_ERRORS:
            raise _OutOfTime
        self.step()

    def become_slow(self) -> None:
        """Take one of the few places for slow checks. Raises SchemaBusy when there is none."""
        if not _slow.acquire(blocking=False):
            raise SchemaBusy
        self.is_slow = True

    def spend(self, seconds: float) -> None:
        """Count the work that another process has done for this one."""
        self.ends -= seconds
        self.slow_from -= seconds
        self.step()


_work: ContextVar[Work] = ContextVar("_work")


@contextmanager
def _working(seconds: float, searcher: Searcher | None) -> Iterator[Work]:
    began = time.thread_time()
    work = Work(began + seconds, began + SLOW_AFTER, searcher)
    token = _work.set(work)
    try:
        yield work
    finally:
        _work.reset(token)
        if work.is_slow:
            _slow.release()


def check(schema: Any, value: Any) -> list[Fault]:
    """Return what does not fit, at most 200 faults, in the order of the schema. Raises BrokenSchema, SchemaBusy."""
    measure(schema)
    kind = _validator(json.dumps(schema, sort_keys=True))
    faults: dict[Fault, None] = {}
    try:
        with Searcher() as searcher, _working(SECONDS, searcher):
            validator = kind(schema, registry=REGISTRY, _resolver=scope_of(schema).resolver)
            for error in islice(validator.iter_errors(value), _MOST):
                faults |= dict.fromkeys(_faults(error))
    except _OutOfTime:
        faults[Fault((), "This could not be checked in time: the schema's patterns or branches take too long.")] = None
    except Unresolvable as exc:
        raise BrokenSchema(f"The schema refers to {str(exc.ref)[:_SHOWN]}, which it does not hold.") from exc
    except RecursionError as exc:
        raise BrokenSchema("The schema refers to itself without an end.") from exc
    return list(faults)


def measure(schema: Any) -> None:
    """Look at the schema's size alone. Raises BrokenSchema when it is deeper or has more parts than are looked at."""
    parts, depth, level = 0, 0, [schema]
    while level:
        parts, depth = parts + len(level), depth + 1
        if parts > MOST_PARTS:
            raise BrokenSchema(f"The schema has more than {MOST_PARTS:,} parts. Leave out what the form does not need.")
        if depth > DEEPEST:
            raise BrokenSchema(f"The schema is nested deeper than {DEEPEST} levels. Flatten it.")
        level = [
            below
            for one in level
            if isinstance(one, dict | list)
            for below in (one.values() if isinstance(one, dict) else one)
        ]


@cache
def _strict(base: Any) -> Any:
    """Return the draft's validator, bounded: each keyword is a step, and those that could hang or say too little
    are replaced."""
    ours = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "format": _format,
        "enum": _enum,
        "uniqueItems": _unique_items,
        "multipleOf": _multiple_of,
        "required": _required,
    }
    kind = extend(base, {name: _counted(keyword) for name, keyword in {**base.VALIDATORS, **ours}.items()})
    kind.evolve = _evolve
    return kind


def _evolve(self: Any, **changes: Any) -> Any:
    """Step into a part, with our keywords whatever dialect the part names; jsonschema would take that one's own."""
    _work.get().step()
    for kept in attrs.fields(type(self)):
        if kept.init and kept.alias not in changes:
            changes[kept.alias] = getattr(self, kept.name)
    return type(self)(**changes)


_known: dict[str, Any] = {}


def _validator(text: str) -> Any:
    """Return the class that checks values of this schema; the schema itself is checked once. Raises BrokenSchema."""
    if text not in _known:
        schema = json.loads(text)
        if not isinstance(schema, dict | bool) or (
            isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str)
        ):
            raise BrokenSchema("The schema is no JSON Schema.")
        if "patternProperties" in text and "unevaluatedProperties" in text:
            raise BrokenSchema("The schema uses unevaluatedProperties with patternProperties, which is not supported.")
        base = validator_for(schema, default=Draft202012Validator)
        try:
            with _working(_SECONDS_FOR_SCHEMA, None):
                fault = next(iter(_strict(base)(base.META_SCHEMA, registry=REGISTRY).iter_errors(schema)), None)
        except _OutOfTime as exc:
            raise BrokenSchema("The schema could not be checked in time. Make it smaller.") from exc
        except RecursionError as exc:
            raise BrokenSchema("The schema is nested too deep.") from exc
        if fault is not None:
            where = "/".join(map(str, fault.absolute_path)) or "its top"
            is_old = isinstance(fault.instance, bool) and where.endswith(("exclusiveMinimum", "exclusiveMaximum"))
            named = " This is OpenAPI 3.0's dialect: write the number itself as the exclusive limit." if is_old else ""
            raise BrokenSchema(f"The schema is no JSON Schema; look at {where[:_SHOWN]}.{named}")
        if len(_known) >= 256:
            _known.clear()
        _known[text] = _strict(base)
    return _known[text]


def matching(pattern: str, texts: Sequence[str]) -> set[str]:
    """Return the texts in which the pattern is found. Raises BrokenSchema, and _OutOfTime at the deadline."""
    work = _work.get()
    for _ in texts:
        work.step()
    if not texts:
        return set()
    if work.searcher is None:
        return {text for text in texts if re.search(pattern, text)}
    if len(pattern) > _LONGEST_PATTERN:
        raise BrokenSchema(f"The schema has a pattern of more than {_LONGEST_PATTERN:,} characters. Shorten it.")
    try:
        found, spent = _searched(work, work.searcher, pattern, texts)
    except Late as exc:
        raise _OutOfTime from exc
    except Unusable as exc:
        raise BrokenSchema(f"The schema's pattern {pattern[:_SHOWN]} {exc}.") from exc
    work.spend(spent)
    return {text for text, is_found in zip(texts, found, strict=True) if is_found}


def _searched(work: Work, searcher: Searcher, pattern: str, texts: Sequence[str]) -> tuple[list[bool], float]:
    """Search quickly, and once more with all the time that is left when that was not enough. Raises as `search`."""
    if not work.is_slow:
        quick = work.slow_from - time.thread_time()
        try:
            return searcher.search(pattern, texts, max(quick, 0.01))
        except Late:
            work.become_slow()
            work.spend(SLOW_AFTER)
    return searcher.search(pattern, texts, work.ends - time.thread_time())


Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError]]


def _counted(keyword: Keyword) -> Keyword:
    def counted(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        work = _work.get()
        work.step()
        for error in keyword(validator, wanted, value, schema) or ():
            work.error()
            yield error

    return counted


def _pattern(validator: Any, pattern: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not matching(pattern, [value]):
        yield ValidationError("pattern")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, below in patterns.items():
        found = matching(pattern, list(value))
        for key, one in value.items():
            if key in found:
                yield from validator.descend(one, below, path=key, schema_path=pattern)


def _additional_properties(validator: Any, below: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    unknown = [key for key in value if key not in known]
    for pattern in schema.get("patternProperties", {}):
        found = matching(pattern, unknown)
        unknown = [key for key in unknown if key not in found]
    for key in unknown:
        one = value[key]
        if below is False:
            yield ValidationError("additionalProperties", path=(key,))
        elif below is not True:
            yield from validator.descend(one, below, path=key)


def _required(validator: Any, names: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        yield from (ValidationError("required", path=(name,)) for name in names if name not in value)


def _format(validator: Any, name: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and name in FORMATS and not _has_format(name, value):
        yield ValidationError("format")


def _enum(validator: Any, choices: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    known = _work.get().choices
    if id(choices) not in known:  # the list lives as long as its schema, which outlives this work
        known[id(choices)] = set(map(_key, choices))
    if _key(value) not in known[id(choices)]:
        yield ValidationError("enum")


def _unique_items(validator: Any, is_wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if is_wanted and isinstance(value, list) and len(set(map(_key, value))) < len(value):
        yield ValidationError("uniqueItems")


def _multiple_of(validator: Any, step: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    # Exact: 0.3 is a multiple of 0.1, whatever binary fractions say.
    if validator.is_type(value, "number") and Fraction(repr(value)) % Fraction(repr(step)):
        yield ValidationError("multipleOf")


def _key(value: Any) -> str:
    """Return a text that two values share when JSON Schema calls them equal: 1 and 1.0 are, 1 and true are not.

    Each part of the value is a step.
    """
    _work.get().step()
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_key(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_key, value)) + "]"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


# The format's name, what a person should type, and how it is checked.
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?")
_TIME = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d+)?)?([Zz]|[+-]\d{2}:\d{2})?")
_DURATION = re.compile(r"-?P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_EMAIL = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
FORMATS = {
    "date": "a date like 2026-01-31",
    "date-time": "a date and time like 2026-01-31T09:30:00Z",
    "time": "a time like 09:30:00",
    "duration": "a duration like P3D or PT45M",
    "email": "an e-mail address like ana@example.com",
    "uri": "an address like https://example.com/page",
    "uuid": "a UUID like 123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "an IPv4 address like 192.0.2.1",
    "ipv6": "an IPv6 address like 2001:db8::1",
}


def _has_format(name: str, text: str) -> bool:
    shapes = {"date-time": _RFC3339, "time": _TIME, "duration": _DURATION, "email": _EMAIL, "uri": _URI}
    if name in shapes and not shapes[name].fullmatch(text):
        return False
    if name == "date" and len(text) != 10:
        return False
    parsers: dict[str, Callable[[str], Any]] = {
        "date": date.fromisoformat,
        "date-time": lambda text: datetime.fromisoformat(text.upper()),
        "time": lambda text: time_of_day.fromisoformat(text.upper()),
        "uuid": uuid.UUID,
        "ipv4": ipaddress.IPv4Address,
        "ipv6": ipaddress.IPv6Address,
    }
    try:
        parsers.get(name, str)(text)
    except ValueError:
        return False
    return True


def _faults(error: ValidationError) -> Iterator[Fault]:
    """Turn one error into sentences. Of alternatives, the one that was meant speaks for itself."""
    _work.get().step()
    if error.validator in ("anyOf", "oneOf") and error.context:
        branches: dict[Any, list[ValidationError]] = {}
        for below in error.context:
            branches.setdefault(below.schema_path[0], []).append(below)
        meant = [errors for errors in branches.values() if not any(_is_other_type(one, error) for one in errors)]
        if len(meant) == 1:
            for one in meant[0]:
                yield from _faults(one)
            return
    yield Fault(tuple(error.absolute_path), _sentence(error))


def _is_other_type(error: ValidationError, parent: ValidationError) -> bool:
    return error.validator in ("type", "const", "enum") and error.absolute_path == parent.absolute_path


_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "yes or no",
    "null": "nothing",
    "array": "a list",
    "object": "an object with keys",
}


def _sentence(error: ValidationError) -> str:
    """Say what would fit. `limit` is what the schema wrote for the keyword."""
    limit, value = error.validator_value, error.instance
    match error.validator:
        case "required":
            return "This is needed."
        case "type":
            wanted = limit if isinstance(limit, list) else [limit]
            told = f"This must be {' or '.join(_TYPES.get(one, str(one)) for one in wanted)}."
            return f"{told} {_NULLABLE}" if value is None and _says_nullable(error) else told
        case "enum":
            return f"Choose one of: {_listed(limit)}."
        case "const":
            return f"This must be {_short(limit)}."
        case "minLength":
            return "This is needed." if not value else f"Type at least {_many(limit, 'character')}."
        case "maxLength":
            return f"Type at most {_many(limit, 'character')}; these are {len(value):,}."
        case "pattern":
            return f"This does not have the form that is asked for: {str(limit)[:_SHOWN]}"
        case "format":
            return f"Type {FORMATS[limit]}."
        case "minimum":
            return f"Type a number greater than or equal to {limit}."
        case "maximum":
            return f"Type a number less than or equal to {limit}."
        case "exclusiveMinimum":
            return f"Type a number greater than {limit}."
        case "exclusiveMaximum":
            return f"Type a number less than {limit}."
        case "multipleOf":
            return f"Type a multiple of {limit}."
        case "minItems":
            return f"At least {_many(limit, 'item')} needed; there {_are(len(value))}."
        case "maxItems":
            return f"At most {_many(limit, 'item')} allowed; there {_are(len(value))}."
        case "uniqueItems":
            return "Each item may stand here once only."
        case "minProperties":
            return f"At least {_many(limit, 'key')} needed; there {_are(len(value))}."
        case "maxProperties":
            return f"At most {_many(limit, 'key')} allowed; there {_are(len(value))}."
        case "additionalProperties" | "unevaluatedProperties":
            return NOT_KNOWN
        case "dependentRequired":
            return "Something else that is given here needs a further value beside it."
        case "contains":
            return "An item of the kind that is asked for is missing."
        case "anyOf" | "oneOf":
            return "This fits none of the forms that are allowed here, or more than one."
    if "propertyNames" in error.absolute_schema_path:
        return f"The name {_short(value)} is not allowed here."
    return "This value is not allowed here."


_NULLABLE = (
    'The schema says "nullable", which only OpenAPI 3.0\'s dialect knows: in JSON Schema, name "null" among the types.'
)


def _says_nullable(error: ValidationError) -> bool:
    return isinstance(error.schema, dict) and error.schema.get("nullable") is True


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _are(number: int) -> str:
    return f"is {number}" if number == 1 else f"are {number:,}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value else write_json(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _listed(choices: list[Any]) -> str:
    shown = ", ".join(_short(one) for one in choices[:10])
    return shown if len(choices) <= 10 else f"{shown} and {len(choices) - 10} more"
