"""What a schema of somebody else's may cost: counted in calls, not in seconds, so that it holds on any machine."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from console.environment import PROJECT
from console.forms import patterns, schema_check, schema_form
from console.forms.patterns import Late, Searcher
from console.forms.schema_check import BrokenSchema, SchemaBusy, check

MOST_CALLS = 4_000_000  # of functions, Python's and C's, for a few seconds' work

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


def chain(keyword: Callable[[dict[str, Any]], dict[str, Any]], length: int, end: Any = None) -> dict[str, Any]:
    """Return a schema in which each definition leads to the next one by the keyword."""
    defs = {f"d{n}": keyword({"$ref": f"#/$defs/d{n + 1}"}) for n in range(length)}
    return {"$defs": {**defs, f"d{length}": {"type": "string"} if end is None else end}, "$ref": "#/$defs/d0"}


def nested(inner: Any, levels: int, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        inner = wrap(inner)
    return inner


MIXED = [value for n in range(2_500) for value in ({"a": n}, str(n), n)]

#: name -> schema and value; each would take minutes, or for ever, by keywords that look at no bound
ATTACKS: dict[str, tuple[Any, Any]] = {
    "allOf doubles": (chain(lambda next_: {"allOf": [next_, next_]}, 40), "x"),
    "anyOf doubles": (chain(lambda next_: {"anyOf": [next_, next_]}, 40, {"type": "null"}), "x"),
    "oneOf doubles": (chain(lambda next_: {"oneOf": [next_, next_]}, 40), "x"),
    "not doubles": (chain(lambda next_: {"not": {"anyOf": [next_, next_]}}, 40, {"type": "null"}), "x"),
    "if doubles": (chain(lambda next_: {"if": next_, "then": next_, "else": next_}, 40), "x"),
    "properties double": (
        chain(lambda next_: {"properties": {"a": next_}, "patternProperties": {"a": next_}}, 40),
        nested("x", 60, lambda inner: {"a": inner}),
    ),
    "dependentSchemas double": (
        chain(lambda next_: {"dependentSchemas": {"a": next_, "b": next_}}, 40),
        {"a": 1, "b": 2},
    ),
    "unevaluatedProperties look again": (
        {**chain(lambda next_: {"allOf": [next_, next_]}, 40), "unevaluatedProperties": False},
        {"a": 1},
    ),
    "unevaluatedItems look again": (
        {**chain(lambda next_: {"allOf": [next_, next_]}, 40), "unevaluatedItems": False},
        [1, 2],
    ),
    "contains for each": (
        {"items": {"contains": {"contains": {"contains": {"const": 1}}}}},
        [[[[0] * 40] * 40] * 40] * 40,
    ),
    "many branches for many items": (
        {"items": {"anyOf": [{"const": f"c{n}"} for n in range(800)]}},
        ["x"] * 20_000,
    ),
    "enum for many items": ({"items": {"enum": MIXED}}, ["x"] * 20_000),
    "uniqueItems of what cannot be sorted": ({"uniqueItems": True}, MIXED),
    "an enum that the old dialect wants unique": ({"$schema": DRAFT_4, "enum": MIXED}, "x"),
    "a part with a dialect of its own": (
        {"properties": {"a": {"$schema": DRAFT_7, "uniqueItems": True}}},
        {"a": MIXED},
    ),
    "a pattern in a part with a dialect of its own": (
        {"properties": {"a": {"$schema": DRAFT_7, "pattern": "^(a|aa)+$"}}},
        {"a": "a" * 60 + "b"},
    ),
    "a pattern that goes back and back": ({"pattern": "^(a|a?)+$"}, "a" * 60 + "b"),
    "many patterns for many keys": (
        {"patternProperties": {f"^(x|x?)+{n}$": True for n in range(400)}, "additionalProperties": False},
        {"x" * 40 + str(n): 1 for n in range(400)},
    ),
    "a pattern that calls itself": ({"pattern": "(?<x>a(?&x)?(?&x)?b|)+c"}, "a" * 5_000),
    "a pattern that looks ahead": ({"pattern": "(?=.*" * 200 + "b" + ")" * 200}, "a" * 5_000),
    "a pattern of what was found before": ({"pattern": r"^(.*)(.*)(.*)\1\2\3$"}, "a" * 5_000 + "b"),
    "a pattern that forgives letters": ({"pattern": "(?b)(?:" + "ab" * 50 + "){e<=60}$"}, "ba" * 5_000),
    "a long way of references": ({"anyOf": [{"$ref": "#/$defs/x"}] * 9_000, "$defs": {"x": {"type": "string"}}}, 1),
    "branches of branches": (chain(lambda next_: {"anyOf": [next_] * 30}, 6, {"type": "null"}), "x"),
    "branches of items": ({"anyOf": [{"items": {"anyOf": [{"type": "null"}] * 200}}] * 40}, ["x"] * 5_000),
    "formats": ({"items": {"anyOf": [{"format": name} for name in schema_check.FORMATS]}}, ["1" * 500] * 5_000),
    "propertyNames": (
        {"propertyNames": {"anyOf": [{"const": f"c{n}"} for n in range(800)]}},
        {str(n): 1 for n in range(9_000)},
    ),
    "many choices for one large value": ({"anyOf": [{"enum": [n]} for n in range(3_000)]}, MIXED),
}


@pytest.fixture
def calls() -> Any:
    """Count every call; stop the test where no bound does."""
    count = 0

    def on(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1
            if count > MOST_CALLS:
                sys.setprofile(None)
                pytest.fail(f"This goes on past {MOST_CALLS:,} calls.")

    sys.setprofile(on)
    yield lambda: count
    sys.setprofile(None)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_check_ends_by_counting_its_steps(attack: str, monkeypatch: pytest.MonkeyPatch, calls: Any) -> None:
    """Time plays no part, but for patterns, which the library stops by it."""
    schema, value = ATTACKS[attack]
    monkeypatch.setattr(schema_check, "STEPS", 10_000)
    monkeypatch.setattr(schema_check, "SECONDS", 0.5 if "pattern" in attack else 3_600.0)
    try:
        faults = check(schema, value)
    except BrokenSchema as exc:
        assert "in time" in str(exc) or "itself" in str(exc)
    else:
        assert all(fault.sentence for fault in faults)
    assert calls() < MOST_CALLS


@pytest.mark.parametrize("attack", ATTACKS)
def test_so_does_the_form_that_is_drawn_of_it(attack: str, monkeypatch: pytest.MonkeyPatch, calls: Any) -> None:
    schema, _ = ATTACKS[attack]
    monkeypatch.setattr(schema_check, "STEPS", 10_000)
    whole = {"type": "object", "properties": {"a": {"$ref": "#/$defs/whole"}}, "$defs": {"whole": schema}}
    schema_form.build(whole, {"a": "x"}, prefix="a")
    assert calls() < MOST_CALLS


def test_what_honest_tools_ask_stays_far_below_the_bound() -> None:
    columns = {f"p{n}": {"type": "string", "maxLength": 9} for n in range(9)}
    rows = {"type": "array", "items": {"type": "object", "properties": columns}}
    value = [{f"p{n}": "text" for n in range(9)} for _ in range(600)]
    assert check({"type": "object", "properties": {"rows": rows}}, {"rows": value}) == []


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (nested({}, 101, lambda inner: {"items": inner}), "nested deeper than 100 levels"),
        (nested({}, 5_000, lambda inner: {"not": inner}), "nested deeper than 100 levels"),
        ({"enum": list(range(30_000))}, "more than 20,000 parts"),
        ({"pattern": "a" * 4_001}, "Shorten it"),
    ],
)
def test_a_schema_of_a_size_that_nobody_needs_is_refused_in_words(schema: Any, said: str) -> None:
    with pytest.raises(BrokenSchema, match=said):
        check(schema, "x")


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 200 + "a" + "{1,99})" * 200,  # reading it took 8 GB
        "(?R)?a(?R)?b",  # looking for it took 1 GB
    ],
)
def test_a_pattern_that_fills_the_memory_is_ended_in_a_process_of_its_own(pattern: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenSchema, match="takes too much memory"):
        check({"pattern": pattern}, "a" * 200_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_the_system_ends_a_search_that_passes_its_time() -> None:
    code = "from console.forms import pattern_worker as worker\nworker._allow(0.5)\nwhile True: pass"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert ended.returncode == -signal.SIGXCPU


def test_a_search_that_was_ended_is_late_and_the_next_one_has_another_process() -> None:
    with Searcher() as searcher:
        assert searcher.search("a", ["a", "b"], 1.0)[0] == [True, False]
        worker = searcher._worker
        assert worker is not None
        worker._process.kill()
        worker._process.wait()
        with pytest.raises(Late):
            searcher.search("a", ["a"], 1.0)
        assert searcher.search("a", ["a"], 1.0)[0] == [True]
    assert len(patterns._idle) <= 2


def test_errors_of_branches_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of nested branches took a gigabyte within the time that a check has."""
    monkeypatch.setattr(schema_check, "MOST_ERRORS", 1_000)
    monkeypatch.setattr(schema_check, "SECONDS", 3_600.0)
    (fault,) = check(*ATTACKS["branches of branches"])
    assert "could not be checked in time" in fault.sentence


SLOW = [{"pattern": "^(.*)(.*)(.*)\\1\\2\\3$"}, "a" * 5_000 + "b"], ATTACKS["branches of branches"]


@pytest.mark.parametrize(("schema", "value"), SLOW)
def test_few_slow_checks_run_at_once_and_quick_ones_always(schema: Any, value: Any) -> None:
    for _ in range(schema_check.SLOW_AT_ONCE):
        assert schema_check._slow.acquire(blocking=False)
    try:
        with pytest.raises(SchemaBusy, match="Send it again"):
            check(schema, value)
        assert check({"pattern": "^a+$"}, "aaa") == []
    finally:
        for _ in range(schema_check.SLOW_AT_ONCE):
            schema_check._slow.release()
    assert check(schema, value)
