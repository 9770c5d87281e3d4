"""Schemas of several drafts, made up by number: the form changes nothing untouched, and one field at a time."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from django.template.loader import render_to_string

from console.forms import schema_form
from console.forms.schema_check import BrokenSchema, check
from console.forms.schema_form import Field, Form
from console.forms.schema_form.fields import walk
from tests.html_form import sent_by_a_browser

DRAFTS = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft-07": "http://json-schema.org/draft-07/schema#",
    "none": "",
}
NAMES = (
    "amount",
    "userId",
    "userID",
    "a.b",
    "a b",
    "",
    "__proto__",
    "[0]",
    "~is",
    "~rows",
    "0",
    "x/y",
    "~0",
    "%41",
    "ä\n",
)
TEXTS = (
    "",
    " ",
    "a ",
    "\n",
    "\na",
    "a\r\nb",
    "a\rb",
    "a\nb\n",
    "€😀",
    "\u202ex",
    "null",
    "1.0",
    "<b>&amp;",
    "\x00",
    "0012",
)
NUMBERS = (0, 1, 1.0, -0.0, 2.5, 1e21, 1e-7, 1.5e300, 2**53 + 1, 10**30, -7)
ANYTHING: tuple[Any, ...] = (None, True, "x", 1.0, [], {}, [1, {"a": None}], {"a": {"b": [1e21]}})


class MadeUp:
    """One schema and one value of it."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self.draft = self.chance.choice(list(DRAFTS))
        self.under = "definitions" if self.draft == "draft-07" else self.chance.choice(["$defs", "definitions"])
        self.named: dict[str, Any] = {}
        part, self.value = self.group(0)
        self.schema = {**part, self.under: self.named} if self.named else part
        if DRAFTS[self.draft]:
            self.schema["$schema"] = DRAFTS[self.draft]
        if self.chance.random() < 0.2:
            self.schema["$id"] = "https://example.com/schemas/main"

    def part(self, depth: int) -> tuple[Any, Any]:
        chance = self.chance
        kinds = [self.text, self.number, self.choice, self.scalar, self.anything, self.nullable]
        kinds += [self.group, self.list, self.mapping, self.reference, self.branches] if depth < 3 else []
        schema, value = chance.choice(kinds)(depth)
        if isinstance(schema, dict) and chance.random() < 0.3:
            words = {"title": "Userid", "description": "What it is.", "readOnly": True, "default": value}
            schema = {**{key: words[key] for key in words if chance.random() < 0.5}, **schema}
        return schema, value

    def text(self, depth: int) -> tuple[Any, Any]:
        return {"type": "string"}, self.chance.choice(TEXTS)

    def number(self, depth: int) -> tuple[Any, Any]:
        value = self.chance.choice(NUMBERS)
        is_whole = isinstance(value, int)
        return {"type": "integer" if is_whole and self.chance.random() < 0.5 else "number"}, value

    def choice(self, depth: int) -> tuple[Any, Any]:
        values: Any = self.chance.choice([["a", "b"], [1, "1", None, True], [{"a": 1.0}, [1]], ["only"], [True, False]])
        value = self.chance.choice(values)
        if len(values) == 1:
            return {"const": value}, value
        return ({"type": "boolean"} if values == [True, False] else {"enum": values}), value

    def scalar(self, depth: int) -> tuple[Any, Any]:
        types = self.chance.choice(
            [["string", "number"], ["string", "integer"], ["integer", "number"], ["number", "string", "null"]]
        )
        values = {"string": self.chance.choice(TEXTS), "number": 2.5, "integer": 7, "null": None}
        part = {"type": list(types)} if self.chance.random() < 0.5 else {"anyOf": [{"type": one} for one in types]}
        return part, values[self.chance.choice(types)]

    def anything(self, depth: int) -> tuple[Any, Any]:
        return self.chance.choice([{}, True]), self.chance.choice(ANYTHING)

    def nullable(self, depth: int) -> tuple[Any, Any]:
        part, value = self.part(depth + 1)
        return {"anyOf": [part, {"type": "null"}]}, self.chance.choice([None, value])

    def group(self, depth: int) -> tuple[Any, Any]:
        names = self.chance.sample(NAMES, self.chance.randrange(1, 5))
        parts = {name: self.part(depth + 1) for name in names}
        given = [name for name in names if self.chance.random() < 0.7]
        value = {name: parts[name][1] for name in given}
        required = [name for name in given if self.chance.random() < 0.5]
        part: dict[str, Any] = {"type": "object", "properties": {name: parts[name][0] for name in names}}
        part |= {"required": required} if required else {}
        match self.chance.randrange(4):
            case 0:
                part["additionalProperties"] = False
            case 1:
                value["further"] = self.chance.choice(ANYTHING)
            case 2:
                more, one = self.part(depth + 1)
                part["additionalProperties"] = more
                value["furthermore"] = one
        return part, value

    def list(self, depth: int) -> tuple[Any, Any]:
        if self.chance.random() < 0.25:
            key = "items" if self.draft in ("draft-07", "2019-09") else "prefixItems"
            return {"type": "array", key: [{"type": "string"}, {"type": "integer"}]}, ["a", 1]
        part, value = self.part(depth + 1)
        return {"type": "array", "items": part}, [copy.deepcopy(value) for _ in range(self.chance.randrange(3))]

    def mapping(self, depth: int) -> tuple[Any, Any]:
        part, value = self.part(depth + 1)
        return {"type": "object", "additionalProperties": part}, {self.chance.choice(NAMES): value}

    def reference(self, depth: int) -> tuple[Any, Any]:
        anchor = f"here{len(self.named)}"
        name = self.chance.choice(["Line", "a/b", "x~y", "ö", "50%"]) + str(len(self.named))
        self.named[name] = {}
        part, value = self.part(depth + 1)
        part = part if isinstance(part, dict) else {}
        pointer = name.replace("~", "~0").replace("/", "~1").replace("%", "%25")
        reference = f"#/{self.under}/{pointer}"
        if self.chance.random() < 0.3:
            part = {"$id": f"#{anchor}", **part} if self.draft == "draft-07" else {"$anchor": anchor, **part}
            reference = f"#{anchor}"
        self.named[name] = part
        beside = {"title": "Beside"} if self.chance.random() < 0.3 else {}
        if self.draft == "draft-07" and self.chance.random() < 0.3:
            beside["type"] = "null"  # means nothing there
        return {"$ref": reference, **beside}, value

    def branches(self, depth: int) -> tuple[Any, Any]:
        parts = [
            ({"type": "object", "properties": {"kind": {"const": kind}, kind: one}, "required": ["kind"]}, kind, value)
            for kind in ("cat", "dog")
            for one, value in [self.part(depth + 1)]
        ]
        _, kind, value = self.chance.choice(parts)
        return {self.chance.choice(["oneOf", "anyOf"]): [part for part, _, _ in parts]}, {"kind": kind, kind: value}


def drawn(schema: Any, value: Any) -> tuple[Form, Any]:
    form = schema_form.build(schema, value, prefix="a")
    return form, sent_by_a_browser(str(render_to_string("shared/_schema_form.html", {"form": form})))


def exact(value: Any) -> str:
    return json.dumps(value)


def test_what_nobody_touched_comes_back_as_it_was_in_every_draft(how_many_examples: int) -> None:
    for number in range(how_many_examples):
        made = MadeUp(number)
        kept = exact(made.value)
        _, post = drawn(made.schema, made.value)
        sent = schema_form.read(made.schema, made.value, post, prefix="a")
        assert exact(sent.value) == kept and not sent.is_touched and sent.ignored == [], number
        assert [path for path, _ in sent.errors] == [one.path for one in check(made.schema, made.value)], number


def test_a_change_of_one_field_changes_that_field_only_in_every_draft(how_many_examples: int) -> None:
    changed = 0
    for number in range(how_many_examples):
        made = MadeUp(number)
        chance = random.Random(number)
        form, post = drawn(made.schema, made.value)
        fields = [(path, one) for path, one in walk(form.root) if one.kind not in ("group", "list")]
        path, field = chance.choice(fields or [((), form.root)])
        if not fields or not type_into(field, post, chance):
            continue
        sent = schema_form.read(made.schema, made.value, post, prefix="a")
        if sent.value is not None and not any(one.faults for _, one in walk(sent.root)):
            changed += exact(sent.value) != exact(made.value)
            assert exact(less(sent.value, path, made.value)) == exact(less(made.value, path, made.value)), number
    assert changed > how_many_examples / 4


def type_into(field: Field, post: Any, chance: random.Random) -> bool:
    """Type into the field what may or may not fit; return whether there was anything to type into."""
    match field.kind:
        case "choice":
            post[field.name] = chance.choice(field.choices).token
        case "json":
            post[field.name] = chance.choice(['{"a": 1.0}', "[]", '"x"', "7"])
        case _:
            post[field.name] = chance.choice(["7", "8.5", "typed", " x\r\n", "0012"])
    return True


def less(value: Any, path: tuple[str | int, ...], before: Any) -> Any:
    """Return the value without the part at the path, or without what on the way there was not there before."""
    if not isinstance(value, dict | list) or not path:
        return None
    step, *rest = path
    parts = value if isinstance(value, dict) else dict(enumerate(value))
    had = before if isinstance(before, dict) else dict(enumerate(before)) if isinstance(before, list) else {}
    if rest and step in parts and step in had and isinstance(had[step], dict | list):
        return {**parts, step: less(parts[step], tuple(rest), had[step])}
    return {key: one for key, one in parts.items() if key != step}


# One reference for the form and for the check.

LINE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("reference", "more"),
    [
        ("#/$defs/Line", {"$defs": {"Line": LINE}}),
        ("#/definitions/Line", {"definitions": {"Line": LINE}}),
        ("#/$defs/a~1b~0c%25", {"$defs": {"a/b~c%": LINE}}),
        ("#line", {"$defs": {"Line": {"$anchor": "line", **LINE}}}),
        ("#line", {"$schema": DRAFTS["draft-07"], "definitions": {"Line": {"$id": "#line", **LINE}}}),
        ("line.json", {"$id": "https://example.com/main.json", "$defs": {"L": {"$id": "line.json", **LINE}}}),
        (
            "outer.json",
            {
                "$id": "https://example.com/main.json",
                "$defs": {
                    "O": {"$id": "outer.json", "$ref": "#/$defs/Line", "$defs": {"Line": LINE}},
                    "Line": {"type": "string"},
                },
            },
        ),
        ("#/components/schemas/Line", {"components": {"schemas": {"Line": LINE}}}),
        ("#/$defs/One", {"$defs": {"One": {"$ref": "#/$defs/Two"}, "Two": LINE}}),
    ],
)
def test_the_form_draws_what_the_check_checks(reference: str, more: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"x": {"$ref": reference}}, **more}
    assert check(schema, {"x": {"n": 1}}) == []
    assert [one.path for one in check(schema, {"x": {"n": "a"}})] == [("x", "n")]
    field = drawn(schema, {"x": {"n": 1}})[0].root.children["x"]
    assert field.kind == "group" and field.children["n"].kind == "integer"


def test_words_beside_a_reference_count_where_the_draft_lets_them() -> None:
    part = {"$ref": "#/definitions/Text", "type": "integer"}
    schema = {"type": "object", "properties": {"x": part}, "definitions": {"Text": {"type": "string"}}}
    old = {**schema, "$schema": DRAFTS["draft-07"]}
    assert check(old, {"x": "a"}) == [] and drawn(old, {"x": "a"})[0].root.children["x"].kind == "text"
    assert check(schema, {"x": "a"}) != [] and drawn(schema, {"x": "a"})[0].root.children["x"].kind == "json"


@pytest.mark.parametrize(
    "reference", ["https://example.com/other.json", "#/$defs/None", "#nowhere", "file:///etc/passwd", "#/$defs/a/0/b"]
)
def test_a_reference_that_leads_nowhere_is_a_box_for_the_form_and_a_sentence_for_the_check(reference: str) -> None:
    schema = {"type": "object", "properties": {"x": {"$ref": reference}}, "$defs": {"a": {}}}
    assert drawn(schema, {"x": 1})[0].root.children["x"].kind == "json"
    with pytest.raises(BrokenSchema, match="which it does not hold"):
        check(schema, {"x": 1})


def test_the_dialect_of_openapi_is_named_when_it_is_met() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "nullable": True}}}
    [fault] = check(schema, {"x": None})
    assert "OpenAPI 3.0" in fault.sentence and check(schema, {"x": "a"}) == []
    with pytest.raises(BrokenSchema, match=r"exclusiveMinimum\. This is OpenAPI 3\.0's dialect"):
        check({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 1)
