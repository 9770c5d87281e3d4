"""One typed form for any JSON Schema: drawn by the server, read back exactly, without a script.

    form = build(schema, value, prefix="arguments")            # draw it
    form = read(schema, value, request.POST, prefix="arguments")  # what was sent, held against what was drawn
    if form.is_valid: use(form.value)                           # else draw `form` again: all that was typed is in it

What a person did not touch is the very object that was given, whatever its text looks like in a browser. What was
not sent at all was not touched either. Only controls that were drawn are read, so a hidden field adds nothing.

Names in the form: `prefix.property.0.property`, each step percent-encoded. A step that starts with `~` is ours:
`~is` (set, null or left out), `~rows` (the indices of a list, in order), `~list` (its end), `~add`, `~remove`,
`~key` (the name of a further key, whose row is `~0`, `~1`, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from console.forms.schema_check import BrokenSchema, Path, check
from console.forms.schema_form.drawing import MOST_FIELDS, MOST_ROWS, Drawing
from console.forms.schema_form.fields import MISSING, Field, located, steps_of, told_path, walk
from console.forms.schema_form.reading import Post, Reading
from console.text.json_text import LIMIT_BYTES, size_fault, write_json

__all__ = [
    "MISSING",
    "MOST_FIELDS",
    "MOST_ROWS",
    "Field",
    "Form",
    "build",
    "read",
    "steps_of",
    "told_path",
]


@dataclass
class Form:
    """A drawn form. After `read`: what was typed, what it means, and what does not fit."""

    root: Field
    prefix: str
    value: Any = None  # only meaningful when the form is valid
    faults: list[str] = field(default_factory=list)  # of no single field
    errors: list[tuple[Path, str]] = field(default_factory=list)  # all of them, by path
    ignored: list[str] = field(default_factory=list)  # names that were sent and never drawn

    @property
    def fields(self) -> list[Field]:
        return list(self.root.children.values()) if self.root.kind == "group" else [self.root]

    @property
    def is_valid(self) -> bool:
        return not self.errors

    @property
    def is_touched(self) -> bool:
        return self.root.is_touched

    @property
    def faulty(self) -> list[Field]:
        """The fields that have a fault, in the order of the page."""
        return [one for _, one in walk(self.root) if one.faults]

    def add_error(self, path: Sequence[str | int], sentence: str) -> None:
        """Put a sentence at the field that draws the path, or above the form when none does."""
        self.errors.append((tuple(path), sentence))
        place, rest = located(self.root, tuple(path))
        words = f"{told_path(rest)}: {sentence}" if rest else sentence
        (self.faults if place is self.root and place.kind == "group" else place.faults).append(words)


def build(schema: Any, value: Any = MISSING, *, prefix: str, id_prefix: str = "") -> Form:
    """Draw the form of a value. Without a value the schema's defaults are filled in."""
    root = Drawing(schema).whole(value, prefix, id_prefix)
    return Form(root, prefix, value=root.original)


Further = Callable[[Any], Iterable[tuple[Sequence[str | int], str]]]


def read(
    schema: Any, value: Any, sent: QueryDict, *, prefix: str, id_prefix: str = "", further: Further | None = None
) -> Form:
    """Read what was sent back for the form that `build` draws of the same schema and value.

    `further`: says what else is wrong with a value that fits the schema, as (path, sentence).
    """
    drawing = Drawing(schema)
    form = Form(drawing.whole(value, prefix, id_prefix), prefix)
    post = Post(sent)
    Reading(drawing, post).take(form.root)
    form.ignored = post.unread(prefix)
    for path, one in walk(form.root):
        form.errors += [(path, fault) for fault in [*one.faults, *(f for row in one.rows for f in row.key_faults)]]
    form.value = None if form.root.value is MISSING else form.root.value
    _check(form, schema)
    if further is not None and form.is_valid:
        for steps, sentence in further(form.value):
            form.add_error(steps, sentence)
    drawing.add_spare_rows(form.root)
    return form


def _check(form: Form, schema: Any) -> None:
    """Hold the value against the schema; a field that could not be read is not blamed twice."""
    known = [path for path, _ in form.errors]
    if fault := _too_large(form.value):
        form.add_error((), fault)
        return
    try:
        found = check(schema, form.value)
    except BrokenSchema as exc:
        form.add_error((), f"{exc} So what is typed here cannot be checked, and not be sent.")
        return
    for one in found:
        if one.path not in known:
            form.add_error(one.path, one.sentence)


def _too_large(value: Any) -> str:
    if fault := size_fault(value):
        return fault
    size = len(write_json(value).encode())
    if size > LIMIT_BYTES:
        return f"This takes {size:,} bytes; at most {LIMIT_BYTES:,} can be kept."
    return ""
