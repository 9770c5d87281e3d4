"""What a form is made of: fields, choices and rows. Templates read them, nothing here decides anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from console.forms.schema_check import FORMATS, Path
from console.forms.schema_shape import Shape
from console.text.json_text import write_json

LONG_TEXT = 80  # characters that fit into one line
_LONG_LIMIT = 200  # characters allowed from which a text gets more than one line


class _Missing(Enum):
    MISSING = "nothing is given"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing.MISSING


@dataclass(frozen=True)
class Choice:
    """One option of a choice: the token that is sent, what it stands for and what a person reads."""

    token: str
    label: str
    value: Any


@dataclass
class FieldRow:
    """One item of a list, or one further key of a group."""

    index: int
    name: str
    item: Field
    is_spare: bool = False
    is_used: bool = True
    is_removed: bool = False
    key: str | None = None  # of a further key; None for a list's item
    key_faults: list[str] = field(default_factory=list)

    @property
    def is_offered(self) -> bool:
        """Whether it is the empty row at the end."""
        return self.is_spare and not self.is_used and not self.is_removed


@dataclass
class Field:
    """One part of the value as the page draws it."""

    name: str  # in the form
    id: str  # of its element
    label: str
    shape: Shape
    kind: str  # text, integer, number, scalar, choice, group, list or json
    original: Any = MISSING
    is_required: bool = True
    is_item: bool = False  # of a row, or the whole: it cannot be left out by itself
    argument: str | None = None  # its exact name in the value, where it has one
    states: tuple[tuple[str, str], ...] = ()  # what may be chosen besides a value, when empty text cannot say it
    empty_state: str = "value"  # what empty text stands for where there is no choice of states
    drawn_state: str = "value"
    state: str = "value"  # value, null or absent
    drawn_text: str = ""
    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    children: dict[str, Field] = field(default_factory=dict)  # by property
    rows: list[FieldRow] = field(default_factory=list)
    takes_rows: bool = False
    notes: list[str] = field(default_factory=list)  # why it is drawn so
    faults: list[str] = field(default_factory=list)
    value: Any = MISSING
    is_touched: bool = False
    is_root: bool = False
    depth: int = 0
    references: frozenset[str] = frozenset()  # followed on the way here
    above: Field | None = field(default=None, repr=False)  # the one that it is in

    @property
    def full_label(self) -> str:
        """The label with the exact name and that of the part it is in: "Order line 2: Count (count)"."""
        is_inner = self.above is not None and not self.above.is_root
        label = self.label if self.argument is None else f"{self.label} ({self.argument})"
        return f"{self.above.label}: {label}" if is_inner and self.above else label

    @property
    def hint(self) -> str:
        hint = self.shape.schema.get("description")
        hint = hint.rstrip() if isinstance(hint, str) else ""
        return f"{hint}." if hint and hint[-1].isalnum() and self.limits else hint  # the limits follow as a sentence

    @property
    def limits(self) -> str:
        """What the schema allows, as a line for people."""
        return _limits(self)

    @property
    def is_secret(self) -> bool:
        """Whether the schema calls it secret: what is typed is shown to nobody, not even to who has typed it."""
        schema = self.shape.schema
        return schema.get("writeOnly") is True or schema.get("format") == "password"

    @property
    def is_long(self) -> bool:
        """Whether the text gets more than one line."""
        schema = self.shape.schema
        most = schema.get("maxLength")
        if self.kind == "scalar":
            return "\n" in self.text or len(self.text) > LONG_TEXT
        may_be_long = (most is None or most > _LONG_LIMIT) and not {"format", "pattern"} & schema.keys()
        return may_be_long or "\n" in self.text or len(self.text) > LONG_TEXT

    @property
    def lines(self) -> int:
        """Lines to draw at first: as many as there are, six for what may become long."""
        most = self.shape.schema.get("maxLength")
        least = 6 if self.kind == "text" and isinstance(most, int) and most > _LONG_LIMIT else 1
        return max(least, min(14, self.text.count("\n") + 1 + len(self.text) // 90))

    @property
    def input_mode(self) -> str:
        if self.kind in ("integer", "number"):
            return "numeric" if self.kind == "integer" and self.shape.schema.get("minimum", -1) >= 0 else "text"
        return {"email": "email", "uri": "url"}.get(str(self.shape.schema.get("format")), "text")

    @property
    def state_name(self) -> str:
        return inside(self.name, "~is")

    @property
    def rows_name(self) -> str:
        return inside(self.name, "~rows")

    @property
    def end_name(self) -> str:
        return inside(self.name, "~list")

    @property
    def row_word(self) -> str:
        return "key" if self.kind == "group" else "item"


def inside(name: str, step: str) -> str:
    """Return the name of what is one step inside another name."""
    return f"{name}.{step}" if name else step


def walk(root: Field, path: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Go through the fields that make up the value, each with its path in the value."""
    yield path, root
    for key, child in root.children.items():
        yield from walk(child, (*path, key))
    used = [row for row in root.rows if row.is_used]
    for position, row in enumerate(used):
        yield from walk(row.item, (*path, position if row.key is None else row.key))


def located(root: Field, path: Path) -> tuple[Field, Path]:
    """Return the innermost field that draws the path, and the rest of the path inside it."""
    found, depth = root, 0
    for at, one in walk(root):
        if at == path[: len(at)] and len(at) >= depth:
            found, depth = one, len(at)
    return found, path[depth:]


def steps_of(path: str) -> list[str | int]:
    """Return the steps of a path as refusals name it, such as `items.0.name`; a list's indices are numbers."""
    steps = [step for step in path.split(".") if step]
    return [int(step) if step.isascii() and step.isdigit() and len(step) < 10 else step for step in steps]


def told_path(path: Iterable[str | int]) -> str:
    """Return a path as people read it: `items[2].sku`."""
    told = ""
    for step in path:
        told += f"[{step}]" if isinstance(step, int) else f".{step}" if told else step
    return told


def _limits(drawn: Field) -> str:
    schema = drawn.shape.schema
    told = []
    if drawn.kind == "text":
        told.append(_span(schema.get("minLength"), schema.get("maxLength"), "character"))
        told.append(str(FORMATS.get(str(schema.get("format")), "")))
        told.append(f"form {schema['pattern']}" if isinstance(schema.get("pattern"), str) else "")
    elif drawn.kind in ("integer", "number"):
        told.append("whole number" if drawn.kind == "integer" else "")
        told.append(_span(schema.get("minimum"), schema.get("maximum"), ""))
        told += [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    elif drawn.kind == "list":
        told.append(_span(schema.get("minItems"), schema.get("maxItems"), "item"))
        told.append("each once only" if schema.get("uniqueItems") is True else "")
    elif drawn.kind == "scalar":
        told.append("a text or a number")
    elif drawn.kind == "json":
        told.append("typed as JSON")
    if not drawn.is_required and schema.get("default") is not None and drawn.kind not in ("group", "list"):
        told.append(f"if left out: {write_json(schema['default'])}")
    line = "; ".join(one for one in told if one)
    return f"{line[0].upper()}{line[1:]}." if line else ""


_BOUNDS = {"exclusiveMinimum": "more than", "exclusiveMaximum": "less than", "multipleOf": "a multiple of"}


def _span(least: Any, most: Any, what: str) -> str:
    numbers = [n for n in (least, most) if isinstance(n, int | float) and not isinstance(n, bool)]
    words = f" {what}s" if what else ""
    if len(numbers) == 2 and (least or not what):
        return f"{least:,} to {most:,}{words}"
    if isinstance(most, int | float):
        return f"at most {most:,}{words}"
    if isinstance(least, int | float) and (least > 1 or not what):
        return f"at least {least:,}{words}"
    return ""
