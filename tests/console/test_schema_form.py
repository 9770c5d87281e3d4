"""A form of any schema: drawn, sent back by a browser, read; what was meant is what comes out, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.http import QueryDict
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from console.forms import schema_form
from console.forms.schema_form import MISSING, Field, Form
from console.forms.schema_form.drawing import Drawing
from console.text.json_text import write_json
from tests.effort import effort
from tests.html_form import sent_by_a_browser

PREFIX = "arguments"
EXAMPLES = max(300, settings().max_examples)  # `--histories 2000` makes 2,000 schemas of each


def html_of(form: Form) -> str:
    return str(render_to_string("shared/_schema_form.html", {"form": form}))


def exact(value: Any) -> str:
    """Return a text that only the very same JSON has: 1, 1.0, true and "1" differ, the order of keys does not."""
    return json.dumps(value, sort_keys=True)


def drawn(schema: Any, value: Any = MISSING) -> Form:
    return schema_form.build(schema, value, prefix=PREFIX)


def sent_back(schema: Any, value: Any, **changes: str | None) -> Form:
    """Draw the form, change controls by the end of their names, send it."""
    post = sent_by_a_browser(html_of(drawn(schema, value)))
    for step, text in changes.items():
        name = f"{PREFIX}.{step}"
        if text is None:
            post.pop(name)
        else:
            post[name] = text
    return schema_form.read(schema, value, post, prefix=PREFIX)


def of(properties: dict[str, Any], required: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


# Random schemas of what pydantic, MCP tools and Prefect write, and values of each.

keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
typeable = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t"), max_size=12)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | typeable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
plain = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 1},
        {"type": "string", "maxLength": 300},
        {"type": "string", "format": "date"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "null"},
        {"const": "fixed"},
        {"enum": ["a", 1, "1", None, True, {"b": [1.5]}]},
        {"$ref": "#/$defs/Colour"},
        {"allOf": [{"$ref": "#/$defs/Colour"}], "description": "<b>of the lamp</b>"},
        {"$ref": "#/$defs/Tree"},
        {},
        True,
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": ["string", "integer", "null"]},
        {"type": "array", "prefixItems": [{"type": "integer"}]},
    ]
)
DEFINITIONS = {
    "Colour": {"enum": ["red", "blue"], "type": "string", "title": "Colour"},
    "Tree": of({"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}, ("name",)),
}


@st.composite
def groups(draw: st.DrawFn, inner: Any) -> dict[str, Any]:
    properties = draw(st.dictionaries(keys, inner, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    more = draw(
        st.just({}) | st.just({"additionalProperties": False}) | inner.map(lambda one: {"additionalProperties": one})
    )
    return {"type": "object", "properties": properties, "required": required, **more}


parts = st.recursive(
    plain,
    lambda inner: (
        groups(inner)
        | inner.map(lambda one: {"type": "array", "items": one})
        | inner.map(lambda one: {"anyOf": [one, {"type": "null"}]})
    ),
    max_leaves=6,
)
schemas = groups(parts).map(lambda group: {**group, "$defs": DEFINITIONS})


def values_of(part: Any, texts: Any, depth: int = 0) -> Any:
    """Return a strategy of values that the part of a schema allows."""
    if part is True or not part:
        return anything
    if "$ref" in part or "allOf" in part:
        name = (part if "$ref" in part else part["allOf"][0])["$ref"].split("/")[-1]
        return values_of(DEFINITIONS[name], texts, depth + 1)
    if "anyOf" in part:
        return st.one_of([values_of(one, texts, depth) for one in part["anyOf"]])
    if "const" in part:
        return st.just(part["const"])
    if "enum" in part:
        return st.sampled_from(part["enum"])
    match part["type"]:
        case "string" if "format" in part:
            return st.dates().map(str)
        case "string":
            return texts.filter(lambda text: len(text) >= part.get("minLength", 0))
        case "integer":
            return st.integers()
        case "number":
            return numbers
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array" if "prefixItems" in part:
            return st.lists(st.integers(), max_size=1)
        case "array":
            return st.lists(values_of(part["items"], texts, depth + 1), max_size=3 if depth < 3 else 0)
        case "object":
            return objects_of(part, texts, depth)
    return st.none() | st.integers() | texts


@st.composite
def objects_of(draw: st.DrawFn, part: dict[str, Any], texts: Any, depth: int) -> dict[str, Any]:
    value = {}
    for key, one in part["properties"].items():
        if key in part["required"] or draw(st.booleans()):
            value[key] = draw(values_of(one, texts, depth + 1))
    more = part.get("additionalProperties")
    is_offered = more not in (True, {}) or not part["properties"]  # "anything more" is kept, a form adds none
    if more is not False and more is not None and is_offered:
        value |= {
            key: one
            for key, one in draw(st.dictionaries(names, values_of(more, texts, depth + 1), max_size=2)).items()
            if key not in part["properties"]
        }
    return value


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_what_nobody_touched_comes_back_as_it_was(data: st.DataObject) -> None:
    schema = data.draw(schemas)
    value = data.draw(values_of(schema, st.text(st.characters(codec="utf-8"), max_size=12)))
    form = schema_form.read(schema, value, sent_by_a_browser(html_of(drawn(schema, value))), prefix=PREFIX)
    assert form.errors == []
    assert not form.is_touched and form.value is value
    assert form.ignored == []


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_what_a_person_types_is_what_comes_out(data: st.DataObject) -> None:
    schema = data.draw(schemas)
    before, after = (data.draw(values_of(schema, typeable)) for _ in range(2))
    form = drawn(schema, before)
    post = QueryDict(mutable=True)
    _type(form.root, after, Drawing(schema), post)
    sent = schema_form.read(schema, before, QueryDict(post.urlencode()), prefix=PREFIX)
    assert sent.errors == []
    assert exact(sent.value) == exact(after)
    # A refused form keeps all of it: what is drawn again means the same when it is sent again.
    again = schema_form.read(schema, before, sent_by_a_browser(html_of(sent)), prefix=PREFIX)
    assert exact(again.value) == exact(after)


def _type(part: Field, wanted: Any, drawing: Drawing, post: QueryDict) -> None:
    """Fill in the controls as a person would who wants this value."""
    state = "absent" if wanted is MISSING else "null" if wanted is None and part.shape.is_nullable else "value"
    if part.kind == "choice":
        token = f"~{state}" if state != "value" else write_json(wanted)
        known = [one.token for one in part.choices]
        post[part.name] = token if token in known else "~kept"
        return
    if part.kind == "json":
        post[part.name] = "" if wanted is MISSING else write_json(wanted)
        return
    if part.kind == "scalar" and state == "value":
        post[part.state_name] = "text" if isinstance(wanted, str) else "number"
    elif part.states:
        post[part.state_name] = state
    if part.kind in ("group", "list"):
        if state == "value":
            _type_parts(part, wanted, drawing, post)
        return
    is_text = part.kind in ("text", "scalar") and isinstance(wanted, str)
    post[part.name] = "" if state != "value" else wanted.replace("\n", "\r\n") if is_text else write_json(wanted)


def _type_parts(part: Field, wanted: Any, drawing: Drawing, post: QueryDict) -> None:
    for key, child in part.children.items():
        _type(child, wanted.get(key, MISSING), drawing, post)
    if not part.takes_rows:
        return
    given = [row for row in part.rows if not row.is_spare]
    further = list(wanted) if part.kind == "list" else [key for key in wanted if key not in part.children]
    for index in range(max(len(given), len(further))):
        row = given[index] if index < len(given) else drawing.row(part, 100 + index, key=None)
        post.appendlist(part.rows_name, str(row.index))
        if index >= len(further):
            post[f"{row.name}.~remove"] = "on"
            continue
        if index >= len(given):
            post[f"{row.name}.~add"] = "on"
        if part.kind == "group":
            post[f"{row.name}.~key"] = further[index]
        _type(row.item, further[index] if part.kind == "list" else wanted[further[index]], drawing, post)
    post[part.end_name] = "end"


WORDS = """
    type properties items required enum const anyOf oneOf allOf $ref $defs additionalProperties title
    description default minLength maxLength pattern format minimum multipleOf minItems maxItems uniqueItems
    enumNames prefixItems $schema a b
"""
keywords = st.sampled_from(WORDS.split())
odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.sampled_from(["string", "object", "array", "#", "#/a", "(", "date", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=4),
    max_leaves=12,
)
steps = st.lists(
    st.sampled_from(["a", "b", "~is", "~rows", "~list", "~add", "~remove", "~key", "0", "1", "~0", "99999"]), max_size=4
)


@settings(max_examples=400, deadline=None)
@given(odd, anything, st.lists(st.tuples(steps, typeable), max_size=6))
def test_no_schema_no_value_and_no_post_breaks_it(schema: Any, value: Any, sent: list[tuple[list[str], str]]) -> None:
    post = sent_by_a_browser(html_of(drawn(schema, value)))
    form = schema_form.read(schema, value, post, prefix=PREFIX)
    assert exact(form.value) == exact(value) or not form.is_valid
    for path, text in sent:
        post.appendlist(".".join([PREFIX, *path]), text)
    assert html_of(schema_form.read(schema, value, post, prefix=PREFIX))


# Shapes that pydantic, MCP tools and OpenAPI write seldom, each with values of it: alone, and inside of others.

TAGGED = [
    of({"kind": {"const": "a"}, "n": {"type": "integer"}}, ("kind",)),
    of({"kind": {"const": "b"}, "t": {"type": "string"}}, ("kind",)),
]
SELDOM: list[tuple[Any, list[Any]]] = [
    ({"oneOf": TAGGED, "discriminator": {"propertyName": "kind"}}, [{"kind": "a", "n": 1}, {"kind": "b", "t": ""}]),
    ({"type": "object", "patternProperties": {"^x-": {"type": "integer"}}}, [{}, {"x-a": 1, "x-": 2}, {"y": "free"}]),
    (
        {"type": "object", "patternProperties": {"^x-": {"type": "number"}}, "additionalProperties": False},
        [{"x-a": 1.0}, {}],
    ),
    (
        of({"card": {"type": "string"}}, dependentSchemas={"card": of({"holder": {"type": "string"}}, ("holder",))}),
        [{}, {"card": "1", "holder": "ana"}, {"holder": "x"}],
    ),
    (of({"a": {}, "b": {}}, dependentRequired={"a": ["b"]}), [{"b": 1.0}, {"a": None, "b": [1]}]),
    ({"$dynamicRef": "#node"}, [{"v": 1}, {"v": 1, "below": [{"v": 2, "below": []}]}]),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [[], [1], [1, "a"]]),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, [[1], [1, "a", "b"]]),
    ({"type": "array", "contains": {"type": "integer"}, "minContains": 1}, [[1], ["a", 1, None]]),
    (
        {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}, "additionalProperties": {"type": "integer"}},
        [{"a": 1}],
    ),
    (
        {
            **of({"a": {"type": "integer"}, "b": {"type": "string"}}),
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
        },
        [{}, {"a": 1, "b": ""}],
    ),
    (
        of({"a": {"type": "integer"}}, allOf=[of({"b": {"type": "string"}})], unevaluatedProperties=False),
        [{"a": 1, "b": ""}],
    ),
    ({"not": {"type": "null"}}, ["a", 1.0, {"a": []}]),
    ({"type": "string", "nullable": True}, ["a", ""]),  # of null its author is told: `test_schema_dialects`
    ({"type": ["object", "null"], "properties": {"a": {"type": "integer"}}}, [None, {}, {"a": 1}]),
    ({"$ref": "#/$defs/Colour", "default": "red", "description": "of the lamp"}, ["red", "blue"]),
    (
        {"allOf": [of({"a": {"type": "integer"}}), of({"b": {"type": "string"}}, ("b",))]},
        [{"b": ""}, {"a": 1, "b": "x"}],
    ),
    ({"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "integer"}]}, [1, [1, 2], []]),
    ({"anyOf": [of({"a": {"type": "integer"}}), of({"a": {"type": "string"}})]}, [{"a": 1}, {"a": "1"}]),
    ({"enum": [1, 1.5, "1", None, True, [], {"a": 1.0}]}, [1, "1", None, True, [], {"a": 1.0}]),
    ({"const": {"a": [1.0, None]}}, [{"a": [1.0, None]}]),
    ({"type": "string", "contentMediaType": "application/json", "contentEncoding": "base64"}, ["YQ==", ""]),
    ({"type": "integer", "format": "int64", "exclusiveMinimum": 0}, [1, 2**53 + 1]),
    ({"type": "number", "multipleOf": 0.1}, [0.3, 1, 1.0]),
    (False, []),
]
NODE = {
    "$dynamicAnchor": "node",
    **of({"v": {"type": "integer"}, "below": {"type": "array", "items": {"$dynamicRef": "#node"}}}, ("v",)),
}
INSIDE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "alone": (lambda part: part, lambda value: value),
    "in a list": (lambda part: {"type": "array", "items": part}, lambda value: [value, value]),
    "under any key": (
        lambda part: {"type": "object", "additionalProperties": part},
        lambda value: {"a.b": value, "": value},
    ),
    "or null": (lambda part: {"anyOf": [part, {"type": "null"}]}, lambda value: value),
    "in a group": (lambda part: of({"p": part, "q": {"type": "integer"}}, ("p",)), lambda value: {"p": value}),
}


@pytest.mark.parametrize("inside", sorted(INSIDE))
@pytest.mark.parametrize(("part", "values"), SELDOM)
def test_a_seldom_shape_is_kept_and_a_change_beside_it_changes_nothing_of_it(
    part: Any, values: list[Any], inside: str
) -> None:
    around, holding = INSIDE[inside]
    schema = {**of({"x": around(part), "y": {"type": "string"}}, ("y",)), "$defs": {**DEFINITIONS, "Node": NODE}}
    for value in [{"x": holding(one), "y": "before"} for one in values] + [{"y": "before"}]:
        untouched = sent_back(schema, value)
        assert untouched.errors == [] and untouched.value is value and untouched.ignored == [], value
        changed = sent_back(schema, value, y="after")
        assert changed.errors == [], (value, changed.errors)
        assert exact(changed.value) == exact({**value, "y": "after"})


# Single cases: what each kind does, and what a person is told.


@pytest.mark.parametrize(
    ("part", "before", "typed", "after"),
    [
        ({"type": "integer"}, 1, "9007199254740993", 9007199254740993),
        ({"type": "number"}, 1.0, "1.0", 1.0),
        ({"type": "number"}, 1.0, "1", 1),
        ({"type": "number"}, 1, " 2.50 ", 2.5),
        ({"type": "string"}, "a", "7", "7"),
        ({"type": "string"}, "a", "", ""),
        ({"type": "string"}, "a\r\nb", "a\r\nc", "a\r\nc"),
        ({"type": "string"}, "a\nb", "a\r\nc", "a\nc"),
        ({"type": "boolean"}, True, "false", False),
        ({"enum": ["1", 1]}, 1, '"1"', "1"),
        ({}, {"a": 1.0}, '{"a": 1.0, "b": "1"}', {"a": 1.0, "b": "1"}),
    ],
)
def test_a_typed_value_has_the_schemas_type(part: Any, before: Any, typed: str, after: Any) -> None:
    form = sent_back(of({"x": part}, ("x",)), {"x": before}, x=typed)
    assert form.is_valid and exact(form.value) == exact({"x": after})


@pytest.mark.parametrize(
    ("part", "typed", "words"),
    [
        ({"type": "integer"}, "1.5", "whole number"),
        ({"type": "integer"}, "", "needed"),
        ({"type": "number"}, "1,5", "in digits, like"),
        ({"type": "number"}, "0.1234567890123456789", "cannot be kept exactly"),
        ({"type": "string", "maxLength": 3}, "abcd", "at most 3 characters; these are 4"),
        ({"type": "string", "minLength": 1}, "", "needed"),
        ({"type": "string"}, "a\x00b", "NUL"),
        ({"type": "boolean"}, "maybe", "Choose one of the list"),
        ({}, "{", "no JSON"),
        ({"type": "object"}, "[1]", "an object"),
    ],
)
def test_what_does_not_fit_is_told_at_its_field_and_stays_typed(part: Any, typed: str, words: str) -> None:
    value = {"x": MISSING, "kept": "as it was"}
    del value["x"]
    schema = of({"x": part, "kept": {"type": "string"}}, ("x",))
    form = sent_back(schema, value, x=typed, kept="also changed")
    assert [path for path, _ in form.errors] == [("x",)]
    assert words in form.root.children["x"].faults[0]
    html = html_of(form)
    assert html.index(words) > html.index(f'id="{PREFIX}-x"') and "also changed" in html
    again = sent_by_a_browser(html)
    assert again[f"{PREFIX}.x"] == (typed if part != {"type": "boolean"} else "")


OPTIONAL = of({"text": {"type": "string"}, "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 10}})


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({}, {"text": "typed"}, {"text": "typed"}),
        ({}, {"text.~is": "value"}, {"text": ""}),
        ({"text": "a"}, {"text.~is": "absent"}, {}),
        ({"text": "a"}, {"text": ""}, {"text": ""}),
        ({"text": ""}, {}, {"text": ""}),
        ({"text": "a"}, {"text": "", "text.~is": "absent"}, {}),
        ({}, {"limit.~is": "null"}, {"limit": None}),
        ({}, {"limit": "5"}, {"limit": 5}),
        ({"limit": 5}, {"limit": "", "limit.~is": "absent"}, {}),
        ({"limit": None}, {"limit.~is": "absent"}, {}),
    ],
)
def test_not_set_empty_and_null_are_three_things(before: Any, changes: dict[str, str], after: Any) -> None:
    form = sent_back(OPTIONAL, before, **changes)
    assert form.is_valid and exact(form.value) == exact(after)


def test_a_mark_that_contradicts_what_was_typed_is_asked_about() -> None:
    form = sent_back(OPTIONAL, {"text": "a"}, **{"text": "b", "text.~is": "absent"})
    assert "choose one of the two" in form.root.children["text"].faults[0]
    assert sent_by_a_browser(html_of(form))[f"{PREFIX}.text"] == "b"


def test_a_value_that_pydantic_calls_optional_has_one_way_to_be_not_set() -> None:
    schema = of({"limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}})
    assert "~is" not in html_of(drawn(schema, {}))
    assert sent_back(schema, {"limit": 5}, limit="").value == {"limit": None}
    assert sent_back(schema, {}, limit="5").value == {"limit": 5}


LINES = of(
    {
        "tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 3},
        "lines": {
            "type": "array",
            "items": of({"sku": {"type": "string"}, "count": {"type": "integer"}}, ("sku", "count")),
        },
    },
    ("tags", "lines"),
)
ORDER = {"tags": ["a", "b"], "lines": [{"sku": "s", "count": 1}]}


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({"tags.0.~remove": "on"}, {**ORDER, "tags": ["b"]}),
        ({"tags.2": "c"}, {**ORDER, "tags": ["a", "b", "c"]}),
        ({"tags.0.~remove": "on", "tags.1": "B", "tags.2": "c"}, {**ORDER, "tags": ["B", "c"]}),
        (
            {"lines.1.sku": "t", "lines.1.count": "2"},
            {**ORDER, "lines": [{"sku": "s", "count": 1}, {"sku": "t", "count": 2}]},
        ),
        ({"lines.0.~remove": "on"}, {**ORDER, "lines": []}),
    ],
)
def test_items_are_added_and_removed_without_a_script(changes: dict[str, str], after: Any) -> None:
    form = sent_back(LINES, ORDER, **changes)
    assert form.errors == [] and exact(form.value) == exact(after)


def test_a_fault_of_an_item_stands_at_it_also_when_one_before_it_is_removed() -> None:
    form = sent_back(LINES, ORDER, **{"tags.0.~remove": "on", "tags.1": "", "lines.1.sku": "t"})
    assert {path for path, _ in form.errors} == {("tags", 0), ("lines", 1, "count")}
    tags, lines = form.root.children["tags"], form.root.children["lines"]
    assert [row.item.faults for row in tags.rows][:2] == [[], ["This is needed."]]
    assert lines.rows[1].item.children["count"].faults == ["This is needed."]
    again = schema_form.read(LINES, ORDER, sent_by_a_browser(html_of(form)), prefix=PREFIX)
    assert again.errors == form.errors, "an item that was removed or added stays so"


def test_the_order_of_rows_is_the_order_they_are_sent_in() -> None:
    post = sent_by_a_browser(html_of(drawn(LINES, ORDER)))
    post.setlist(f"{PREFIX}.tags.~rows", ["1", "0", "2"])
    assert schema_form.read(LINES, ORDER, post, prefix=PREFIX).value["tags"] == ["b", "a"]


MAP = of({"x": {"type": "string"}}, additionalProperties={"type": "integer"})


@pytest.mark.parametrize(
    ("changes", "after"),
    [
        ({"~0": "5"}, {"x": "t", "a": 5, "b": 2}),
        ({"~0.~key": "c"}, {"x": "t", "c": 1, "b": 2}),
        ({"~1.~remove": "on"}, {"x": "t", "a": 1}),
        ({"~2.~key": "d", "~2": "4"}, {"x": "t", "a": 1, "b": 2, "d": 4}),
    ],
)
def test_further_keys_are_renamed_added_and_removed(changes: dict[str, str], after: Any) -> None:
    form = sent_back(MAP, {"a": 1, "x": "t", "b": 2}, **changes)
    assert form.errors == [] and exact(form.value) == exact(after)


@pytest.mark.parametrize(("key", "words"), [("x", "taken already"), ("b", "taken already"), ("", "Give it a name")])
def test_a_further_key_has_a_name_of_its_own(key: str, words: str) -> None:
    form = sent_back(MAP, {"a": 1, "x": "t", "b": 2}, **{"~2.~key": key, "~2": "4"})
    assert words in form.errors[0][1] and words in html_of(form)


def test_what_was_not_drawn_adds_nothing_and_is_reported() -> None:
    schema = of({"x": {"type": "string"}, "list": {"type": "array", "items": {"type": "integer"}}}, ("x",))
    post = sent_by_a_browser(html_of(drawn(schema, {"x": "a", "list": [1]})))
    for name in ("y", "x.y", "x.~add", "list.7", "list.0.z"):
        post[f"{PREFIX}.{name}"] = "9"
    post["elsewhere"] = "9"
    form = schema_form.read(schema, {"x": "a", "list": [1]}, post, prefix=PREFIX)
    assert form.value == {"x": "a", "list": [1]}
    assert sorted(form.ignored) == sorted(f"{PREFIX}.{name}" for name in ("y", "x.y", "x.~add", "list.7", "list.0.z"))


def test_what_was_not_sent_was_not_touched() -> None:
    value = {"tags": ["a", "b"], "lines": [{"sku": "s", "count": 1}]}
    form = schema_form.read(LINES, value, QueryDict(""), prefix=PREFIX)
    assert form.value is value and form.is_valid


def test_without_a_value_the_defaults_are_drawn() -> None:
    schema = of(
        {
            "count": {"type": "integer", "default": 3},
            "on": {"type": "boolean", "default": True},
            "x": {"type": "string"},
        }
    )
    form = drawn(schema)
    assert form.value == {"count": 3, "on": True}
    assert form.root.children["count"].text == "3" and form.root.children["x"].state == "absent"
    assert drawn(schema, {}).root.children["count"].text == "", "a value is never replaced by a default"


def test_what_does_not_show_is_named_and_what_a_box_cannot_carry_is_json() -> None:
    schema = of({"x": {"type": "string"}}, ("x",))
    assert "U+202E" in html_of(drawn(schema, {"x": "pay\u202e 12"}))
    assert drawn(MAP, {"a\nb": 1}).root.kind == "json"
    for text in ("a\x00b", "a\rb", "a\x1bb"):
        field = drawn(schema, {"x": text}).root.children["x"]
        assert field.kind == "json" and text not in field.text
        assert sent_back(schema, {"x": text}).value == {"x": text}


def test_words_of_a_schema_are_inert() -> None:
    bad = "</textarea><script>alert(1)</script>\u202e"
    schema = of({"x": {"type": "string", "title": bad, "description": bad, "pattern": bad}, bad: {"enum": [bad]}})
    html = html_of(sent_back(schema, {"x": bad}, x=bad + "!"))
    assert "<script" not in html and "⟨U+202E⟩" in html


def test_names_of_any_shape_are_kept_apart() -> None:
    names = ("a.b", "a", "~is", "~rows", "0", "ä ö", "x\ny", "\u202e", "%2E", "")
    schema = of({name: {"type": "string"} for name in names}, names)
    form = sent_back(schema, {name: name for name in names}, a="changed")
    assert form.value == {**{name: name for name in names}, "a": "changed"}


def test_a_property_cannot_pose_as_a_control_of_ours() -> None:
    value = {"~rows": "0", "~list": "", "~0": "x", "a": 1}
    names = {name: {"type": "string"} for name in ("~rows", "~list", "~0")}
    schema = of(names, additionalProperties={"type": "integer"})
    assert sent_back(schema, value, **{"~0": "2"}).value == {**value, "a": 2}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (of({f"p{n}": {"type": "string"} for n in range(5_000)}), {f"p{n}": "x" for n in range(5_000)}),
        (of({}), {f"p{n}": n for n in range(4_999)}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {f"p{n}": n for n in range(4_999)}),
        (of({"l": {"type": "array", "items": {"type": "integer"}}}), {"l": list(range(4_900))}),
        (of({"t": {"type": "string"}}), {"t": "x" * 255_000}),
        ({**of({"t": {"$ref": "#/$defs/Tree"}}), "$defs": DEFINITIONS}, {}),
    ],
)
def test_much_is_drawn_as_a_box_and_quickly(schema: Any, value: Any) -> None:
    form = sent_back(schema, value)
    assert form.value is value and form.is_valid
    assert effort(lambda: sent_back(schema, value), rounds=1) < 600
    assert len(sent_by_a_browser(html_of(form))) < 900, "Django takes a thousand values at once"


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "typed", "words"),
    [
        ({"x": {}}, json.dumps(nested(70)), "levels"),
        ({"x": {}}, json.dumps({f"p{n}": n for n in range(5_001)}), "keys and items"),
        ({"x": {}}, json.dumps("x" * 300_000), "256 KiB"),
        ({"x": nested(200)}, None, "levels"),
        ({"x": nested(3_000)}, None, "levels"),
        ({"x": list(range(6_000))}, None, "keys and items"),
    ],
    ids=range(6),
)
def test_too_much_is_refused_in_a_sentence(value: Any, typed: str | None, words: str) -> None:
    form = sent_back(of({"x": {}}), value, **({} if typed is None else {"x": typed}))
    assert len(form.errors) == 1 and words in form.errors[0][1] and words in html_of(form)


def test_a_broken_schema_lets_nothing_through_and_says_why() -> None:
    form = sent_back(of({"x": {"$ref": "#/$defs/Missing"}}), {"x": 1}, x="2")
    assert "which it does not hold" in form.faults[0] and not form.is_valid


def test_a_value_of_another_type_than_the_schema_says_is_kept_and_can_be_mended() -> None:
    assert drawn(of({"x": {"type": "integer"}}), {"x": True}).root.children["x"].kind == "json"
    schema = of({"x": {"type": "string"}, "colour": {"enum": ["red"]}}, ("x",))
    value = {"x": 7, "colour": "green", "more": [1.0]}
    assert [path for path, _ in sent_back(schema, value).errors] == [("x",), ("colour",)]
    assert sent_back(schema, value, x='"7"', colour='"red"').value == {"x": "7", "colour": "red", "more": [1.0]}


def test_a_fault_from_elsewhere_finds_its_field() -> None:
    form = drawn(LINES, ORDER)
    for path in (("lines", 0, "count"), ("lines", 0, "unknown"), (), ("nowhere",)):
        form.add_error(path, "No.")
    lines = form.root.children["lines"].rows[0].item
    assert lines.children["count"].faults == ["No."] and lines.faults == ["unknown: No."]
    assert form.faults == ["No.", "nowhere: No."]


def test_fields_come_in_the_order_of_what_is_needed_which_the_database_keeps() -> None:
    properties = {name: {"type": "string"} for name in ("amount", "reason", "note", "order_id")}
    schema = {"type": "object", "properties": properties, "required": ["order_id", "amount", 7, "reason"]}
    form = schema_form.build(schema, {}, prefix="a")
    assert list(form.root.children) == ["order_id", "amount", "reason", "note"]


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("items.0.name", ["items", 0, "name"]),
        (".items", ["items"]),
        ("", []),
        ("labels.²", ["labels", "²"]),
        ("labels." + "9" * 5_000, ["labels", "9" * 5_000]),
    ],
)
def test_the_path_of_a_refusal_is_read_as_steps(path: str, steps: list[str | int]) -> None:
    assert schema_form.steps_of(path) == steps


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string"},
        {"type": "string", "minLength": 1},
        {"type": ["string", "null"]},
        {"type": "integer"},
        {"type": ["string", "number"]},
        {"const": "only"},
        of({"below": {"type": "string"}}),
        of({"below": {"const": 1}}, ("below",)),
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {},
    ],
)
def test_what_is_needed_and_was_not_given_is_not_made_up(part: Any) -> None:
    """A text that nobody typed became "", a list [], an object {}, an only choice its value."""
    schema = of({"x": part, "y": {"type": "string"}}, ("x", "y"))
    for changes, after in (({}, {"y": "a"}), ({"y": "b"}, {"y": "b"})):
        form = sent_back(schema, {"y": "a"}, **changes)
        assert [path for path, _ in form.errors] == [("x",)]
        assert form.value == after


def test_what_is_needed_can_be_given_empty_on_purpose() -> None:
    schema = of({"x": {"type": "string"}, "list": {"type": "array", "items": {"type": "string"}}}, ("x", "list"))
    form = sent_back(schema, {}, **{"x.~is": "value", "list.~is": "value"})
    assert form.is_valid and form.value == {"x": "", "list": []}


DECIMAL = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\d+(\.\d+)?$"}, {"type": "null"}]}


@pytest.mark.parametrize(
    ("before", "typed", "state", "after"),
    [
        ("12.50", "13.00", None, "13.00"),
        (12.5, "13", None, 13),
        (12.5, "13.0", None, 13.0),
        ("12", "13", None, "13"),
        ("12", "12", "number", 12),
        (12, "12", "text", "12"),
        (None, "12", "value", 12),
        (None, "12.50", "value", "12.50"),
        (None, "007", "value", "007"),
        (None, "12", "text", "12"),
        ("12", "12", "null", None),
        (None, "12.50", None, "12.50"),
    ],
)
def test_a_choice_between_texts_and_numbers_is_one_field_that_keeps_the_type(
    before: Any, typed: str, state: str | None, after: Any
) -> None:
    schema = of({"x": DECIMAL, "y": {"type": "string"}}, ("x", "y"))
    assert drawn(schema, {"x": before, "y": ""}).root.children["x"].kind == "scalar"
    changes = {"x": typed, **({"x.~is": state} if state else {})}
    form = sent_back(schema, {"x": before, "y": ""}, **changes)
    assert form.errors == [] and exact(form.value) == exact({"x": after, "y": ""})


def test_a_number_that_is_meant_and_is_none_is_told() -> None:
    form = sent_back(of({"x": {"type": ["string", "integer"]}}, ("x",)), {"x": 1}, x="1.5")
    assert "whole number" in form.root.children["x"].faults[0]


def test_every_field_shows_the_exact_name_of_its_argument() -> None:
    names = ("userId", "userID", "a.b", "", "x\u202ey")
    text = {"type": "string", "title": "Userid"}
    schema = of({**dict.fromkeys(names, text), "lines": of({"n": text})}, names)
    html = html_of(drawn(schema, {}))
    for shown in ("userId", "userID", "a.b", "(empty)", "x⟨U+202E⟩y", "lines", "n"):
        assert f'<code class="schema-name">{shown}</code>' in html
    assert drawn(schema, {}).root.children["userID"].full_label == "Userid (userID)"


@pytest.mark.parametrize(("said", "told"), [("How much", "How much."), ("How much.",) * 2, ("How much?",) * 2])
def test_what_an_author_says_is_a_sentence_before_what_the_schema_allows(said: str, told: str) -> None:
    form = drawn(of({"a": {"type": "integer", "description": said, "minimum": 2}}, ("a",)), {"a": 3})
    field = form.root.children["a"]
    assert field.hint == told and field.limits
