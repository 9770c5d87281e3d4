"""Drawing: from a schema and a value to a tree of fields."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from console.forms.schema_form.fields import LONG_TEXT, MISSING, Choice, Field, FieldRow, inside, walk
from console.forms.schema_shape import Shape, more_of, properties_of, scope_of, shape_of
from console.text.json_text import size_fault, write_json

MOST_FIELDS = 200  # drawn as controls; beyond that the whole value is one box
MOST_ROWS = 50  # of one list
_DEEPEST_FIELDS = 8  # levels drawn as controls


class TooMany(Exception):
    """More fields than a page should draw."""


class Drawing:
    """Draws the fields of one schema."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.scope = scope_of(schema)
        self.left = MOST_FIELDS

    def whole(self, value: Any, prefix: str, id_prefix: str) -> Field:
        """Draw the whole value: as controls, or as one box when that would be too many. Without one: the defaults."""
        value = self.defaults() if value is MISSING else value
        id_ = id_prefix or prefix or "field"
        try:
            if value is not MISSING and size_fault(value):
                raise TooMany
            drawn = self.field(self.schema, value, prefix, id_, label="Arguments", is_item=True)
        except TooMany:
            shape = shape_of(self.schema, self.scope)
            words: dict[str, Any] = {
                name: shape.schema[name] for name in ("title", "description") if name in shape.schema
            }
            drawn = Field(name=prefix, id=id_, label="Arguments", shape=Shape("json", words), kind="json")
            drawn.original = value
            _fill_scalar(drawn)
            drawn.notes.append(
                f"There are more than {MOST_FIELDS} fields: all of them are written as JSON, in one box."
            )
        drawn.is_root = True
        if not drawn.name and drawn.kind != "group":
            drawn.name = "json"
        self.left = 5 * MOST_FIELDS  # for rows that are added; Django takes a thousand values at once
        return drawn

    def defaults(self) -> Any:
        """Return what a form starts with when there is no value yet: the defaults of an object's properties."""
        shape = shape_of(self.schema, self.scope)
        if shape.kind != "group":
            return shape.schema.get("default", MISSING)
        parts = properties_of(shape).items() if shape.scope else ()
        found = {name: shape_of(one, shape.scope).schema.get("default") for name, one in parts if shape.scope}
        return {name: default for name, default in found.items() if default is not None}

    def field(
        self,
        part: Any,
        value: Any,
        name: str,
        id_: str,
        *,
        label: str,
        is_required: bool = True,
        is_item: bool = False,
        above: Field | None = None,
    ) -> Field:
        """Draw one part, and what is in it. `above`: the field that it is in.

        `is_item`: it is there because its row is; left out, it would be a row without a value.
        """
        self.left -= 1
        if self.left < 0:
            raise TooMany
        shape = shape_of(part, (above and above.shape.scope) or self.scope)
        depth = above.depth + 1 if above else 0
        seen = above.references if above else frozenset()
        kind, note = _kind_for(shape, value, depth, seen)
        drawn = Field(name, id_, _title(shape) or label, shape, kind, value, is_required, is_item)
        drawn.depth, drawn.references, drawn.above = depth, seen | shape.references, above
        drawn.notes += [note] if note else []
        if kind in ("group", "list"):
            _offer_states(drawn)
            self._fill(drawn)
        elif kind == "choice":
            _fill_choice(drawn)
        else:
            _fill_scalar(drawn)
        return drawn

    def _fill(self, drawn: Field) -> None:
        """Draw the properties and the rows of a group or a list."""
        value = drawn.original
        if drawn.kind == "list":
            drawn.takes_rows = True
            drawn.rows = [self.row(drawn, index, one) for index, one in enumerate(value or [])]
        else:
            given = value if isinstance(value, dict) else {}
            named = properties_of(drawn.shape)
            required = drawn.shape.schema.get("required")
            required = required if isinstance(required, list) else []
            drawn.takes_rows = more_of(drawn.shape) is not None
            for key in [*named, *(key for key in given if key not in named and not drawn.takes_rows)]:
                drawn.children[key] = self.field(
                    named.get(key, {}),
                    given.get(key, MISSING),
                    inside(drawn.name, _step(key)),
                    f"{drawn.id}-{_step(key)}",
                    label=key.replace("_", " ").strip().capitalize() or "(no name)",
                    is_required=key in required,
                    above=drawn,
                )
                drawn.children[key].argument = key
            if drawn.takes_rows:
                drawn.rows = [self.row(drawn, index, given[key], key) for index, key in enumerate(given_rows(drawn))]
        self.add_spare_row(drawn)

    def row(self, of: Field, index: int, value: Any = MISSING, key: str | None = None) -> FieldRow:
        """Draw a row of a list, or a further key of a group; without a value an empty one."""
        step = str(index) if of.kind == "list" else f"~{index}"
        name, id_ = inside(of.name, step), f"{of.id}-{step}"
        part = of.shape.schema["items"] if of.kind == "list" else more_of(of.shape)
        label = of.label if of.kind == "list" else "Value"
        drawn = self.field(part, value, name, id_, label=label, is_item=True, above=of)
        if of.kind == "list":
            drawn.label = f"{drawn.label} {index + 1}"
        return FieldRow(index, name, drawn, is_spare=value is MISSING, key=key)

    def add_spare_row(self, of: Field) -> None:
        """End the list with an empty row, so that an item can be added without a script."""
        most = of.shape.schema.get("maxItems" if of.kind == "list" else "maxProperties")
        is_full = isinstance(most, int) and len(of.rows) + len(of.children) >= most
        if not of.takes_rows or is_full or any(row.is_offered for row in of.rows):
            return
        row = self.row(of, _next_index(of), key=None if of.kind == "list" else "")
        row.is_used = False
        of.rows.append(row)

    def add_spare_rows(self, root: Field) -> None:
        """End every list that is shown with an empty row."""
        for _, one in list(walk(root)):
            self.add_spare_row(one)


def _next_index(of: Field) -> int:
    return max([len(given_rows(of)), *(row.index + 1 for row in of.rows)])


def given_rows(of: Field) -> list[Any]:
    """Return the items of the given list, or the further keys of the given group, in the order of their rows."""
    if isinstance(of.original, list):
        return of.original
    named = properties_of(of.shape)
    return [key for key in of.original if key not in named] if isinstance(of.original, dict) else []


def _step(key: str) -> str:
    return quote(key, safe="", errors="surrogatepass").replace(".", "%2E").replace("~", "%7E")


def _title(shape: Shape) -> str:
    title = shape.schema.get("title")
    return title if isinstance(title, str) else ""


#: What an HTML form does not send back as it was: newlines are rewritten, NUL and halves of characters replaced.
_LOST = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _survives(text: str) -> bool:
    return not _LOST.search(text.replace("\r\n", "\n") if has_plain_crlf(text) else text)


def has_plain_crlf(text: str) -> bool:
    return "\r\n" in text and not re.search(r"[\r\n]", text.replace("\r\n", ""))


def _kind_for(shape: Shape, value: Any, depth: int, seen: frozenset[str]) -> tuple[str, str]:
    """Return the kind of control for this very value, and why it is another one than the schema's."""
    if value is MISSING or (value is None and shape.is_nullable):
        is_endless = depth >= _DEEPEST_FIELDS or bool(seen & shape.references)
        return ("json" if shape.kind in ("group", "list") and is_endless else shape.kind), ""
    types: dict[str, Any] = {"text": str, "integer": int | float, "number": int | float, "group": dict, "list": list}
    wanted = str | int | float if shape.kind == "scalar" else types.get(shape.kind, object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not object):
        return "json", "This is not of the type that the schema names, so it is written as JSON."
    if shape.kind in ("text", "scalar") and isinstance(value, str) and not _survives(value):
        return "json", "This text holds characters that a text box cannot carry, so it is written as JSON."
    if shape.kind in ("group", "list"):
        if depth >= _DEEPEST_FIELDS:
            return "json", ""
        known = properties_of(shape) if shape.kind == "group" else {}
        further = [one for one in value if shape.kind == "list" or one not in known]
        if len(further) > MOST_ROWS:
            return "json", f"There are more than {MOST_ROWS} of them, so they are written as JSON."
        if shape.kind == "group" and any("\n" in key or not _survives(key) for key in further):
            return "json", "A name in this holds characters that a text box cannot carry, so it is written as JSON."
    return shape.kind, ""


def _offer_states(drawn: Field) -> None:
    """Find out what the field can be besides a value, and what it is now."""
    schema, original = drawn.shape.schema, drawn.original
    # What is needed and was not given is not given yet: an empty text that nobody typed would be a value.
    is_new = drawn.above is not None and drawn.above.original is MISSING
    says_so_itself = drawn.kind == "choice" or (drawn.kind in ("group", "list") and is_new)  # "Choose…"; no item
    is_open = original is MISSING and not drawn.is_item and not says_so_itself
    may = ["absent"] if not drawn.is_required or is_open else []
    may += ["null"] if drawn.shape.is_nullable and drawn.kind != "json" else []
    if len(may) == 2 and "default" in schema and schema["default"] is None:
        may = ["absent"] if original is MISSING else ["null"]  # they mean the same
    if original is MISSING and "absent" in may:
        drawn.drawn_state = "absent"
    elif original is None and drawn.shape.is_nullable and drawn.kind != "json":
        drawn.drawn_state = "null"
    empty_says_it = drawn.kind in ("integer", "number", "json") or (
        drawn.kind == "text" and isinstance(schema.get("minLength"), int) and schema["minLength"] > 0
    )
    if len(may) == 1 and empty_says_it:
        drawn.empty_state = may[0]
    elif may:
        words = {"absent": "Not set", "null": "Not set"} if len(may) == 1 else {"absent": "Left out", "null": "Null"}
        drawn.states = (("value", "Set"), *((one, words[one]) for one in may))
    if drawn.kind == "scalar":
        drawn.states = (*_types_to_choose(original), *drawn.states[1:])
    if original is MISSING and "absent" not in may:
        drawn.drawn_state = drawn.empty_state
    drawn.state = drawn.drawn_state


def _types_to_choose(original: Any) -> tuple[tuple[str, str], ...]:
    """Return what a text can be read as; "value" is what keeps the type of the original."""
    text, number = ("text", "Text"), ("number", "Number")
    if isinstance(original, str):
        return ("value", "Text"), number
    if isinstance(original, int | float):
        return ("value", "Number"), text
    return ("value", "As typed"), text, number


def _fill_scalar(drawn: Field) -> None:
    _offer_states(drawn)
    if drawn.drawn_state == "value" and drawn.original is not MISSING:
        if drawn.kind == "text" or (drawn.kind == "scalar" and isinstance(drawn.original, str)):
            drawn.text = drawn.original.replace("\r\n", "\n")
        else:
            try:
                drawn.text = write_json(drawn.original, indent=2 if drawn.kind == "json" else None)
            except RecursionError:
                drawn.notes.append("This is nested too deep to be shown.")
    drawn.drawn_text = drawn.text


def _fill_choice(drawn: Field) -> None:
    _offer_states(drawn)
    texts = [write_json(value) for value, _ in drawn.shape.choices]
    for (value, title), token in zip(drawn.shape.choices, texts, strict=True):
        is_plain = isinstance(value, str) and value.strip() and value not in texts
        drawn.choices.append(Choice(token, title or (value if is_plain else token), value))
    drawn.choices += [
        Choice(f"~{state}", label, MISSING if state == "absent" else None)
        for state, label in drawn.states
        if state != "value"
    ]
    drawn.states = ()
    if drawn.drawn_state != "value":
        drawn.text = f"~{drawn.drawn_state}"
    elif drawn.original is MISSING:
        is_new = drawn.above is not None and drawn.above.original is MISSING
        drawn.text = drawn.choices[0].token if len(drawn.choices) == 1 and is_new else ""
        if not drawn.text:
            drawn.choices.insert(0, Choice("", "Choose…", MISSING))
    elif (token := write_json(drawn.original)) in texts:
        drawn.text = token
    else:
        drawn.text = "~kept"
        drawn.choices.insert(0, Choice("~kept", f"{token[:LONG_TEXT]} (as it is)", drawn.original))
    drawn.drawn_text = drawn.text
