"""Reading: from what a browser sent to the value that is meant."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict

from console.forms.schema_form.drawing import Drawing, TooMany, given_rows, has_plain_crlf
from console.forms.schema_form.fields import MISSING, Field, FieldRow
from console.text.json_text import WHOLE, NotJson, read_json, read_number, write_json
from console.text.stored import UNKEPT, can_be_kept


class Post:
    """What was sent, and which of it was read."""

    def __init__(self, sent: QueryDict) -> None:
        self._sent = sent
        self._read: set[str] = set()

    def one(self, name: str) -> str | None:
        self._read.add(name)
        text = self._sent.get(name)
        return None if text is None else text.replace("\r\n", "\n").replace("\r", "\n")

    def many(self, name: str) -> list[str]:
        self._read.add(name)
        return self._sent.getlist(name)

    def unread(self, prefix: str) -> list[str]:
        """Return the names below the prefix that no drawn control has, at most twenty."""
        return [n for n in self._sent if n not in self._read and prefix and n.startswith(f"{prefix}.")][:20]


class Reading:
    """Reads what was sent into the fields that were drawn."""

    def __init__(self, drawing: Drawing, post: Post) -> None:
        self.drawing = drawing
        self.post = post

    def take(self, drawn: Field) -> None:
        """Fill in `value`, `is_touched`, `text`, `state` and `faults`."""
        match drawn.kind:
            case "group" | "list":
                self._take_parts(drawn)
            case "choice":
                self._take_choice(drawn)
            case _:
                self._take_text(drawn)

    def _state(self, drawn: Field) -> str:
        if not drawn.states:
            return drawn.drawn_state
        sent = self.post.one(drawn.state_name)
        return sent if sent in dict(drawn.states) and sent is not None else drawn.drawn_state

    def _take_choice(self, drawn: Field) -> None:
        sent = self.post.one(drawn.name)
        drawn.text = drawn.drawn_text if sent is None else sent
        drawn.is_touched = drawn.text != drawn.drawn_text
        chosen = next((one for one in drawn.choices if one.token == drawn.text), None)
        if chosen is None or chosen.token == "":
            drawn.faults.append("Choose one of the list.")
        else:
            drawn.value = chosen.value

    def _take_text(self, drawn: Field) -> None:
        sent = self.post.one(drawn.name)
        drawn.text = drawn.drawn_text if sent is None else sent
        state = self._state(drawn)
        is_empty = not drawn.text if drawn.kind in ("text", "scalar") else not drawn.text.strip()
        is_same = drawn.text == drawn.drawn_text
        if drawn.states and state in _NOT_SET and not is_empty and not is_same:
            if state != drawn.drawn_state:
                drawn.state, drawn.is_touched = state, True
                drawn.faults.append("This is marked as not set, but something was typed: choose one of the two.")
                return
            state = "value"  # what was typed counts, although nobody changed the mark
        if not drawn.states:
            is_left = is_same and drawn.original is not MISSING
            state = drawn.drawn_state if is_left else drawn.empty_state if is_empty else "value"
        drawn.state = state
        drawn.is_touched = state != drawn.drawn_state or (state not in _NOT_SET and not is_same)
        if state in _NOT_SET:
            drawn.value = MISSING if state == "absent" else None
        elif not drawn.is_touched and drawn.original is not MISSING:
            drawn.value = drawn.original
        else:
            self._parse(drawn)

    def _parse(self, drawn: Field) -> None:
        text = drawn.text
        try:
            if drawn.kind == "text" or (drawn.kind == "scalar" and not _is_meant_as_number(drawn)):
                drawn.value = _text_value(text, drawn.original)
            elif not text.strip():
                raise NotJson("This is needed.")
            elif drawn.kind == "json":
                drawn.value = read_json(text)
            elif drawn.shape.is_whole and not WHOLE.fullmatch(text.strip()):
                raise NotJson("Type a whole number in digits, like 12.")
            else:
                drawn.value = read_number(text.strip())
        except NotJson as exc:
            drawn.faults.append(str(exc))

    def _take_parts(self, drawn: Field) -> None:
        for child in drawn.children.values():
            self.take(child)
        has_new_rows = drawn.takes_rows and self._take_rows(drawn)
        rows = [row for row in drawn.rows if row.is_used]
        parts = [*drawn.children.values(), *(row.item for row in rows)]
        is_changed = has_new_rows or any(part.is_touched for part in parts)
        state = self._state(drawn)
        if state != "value" and is_changed:
            if state != drawn.drawn_state:
                drawn.state, drawn.is_touched = state, True
                drawn.faults.append("This is marked as not set, but a part of it was changed: choose one of the two.")
                return
            state = "value"
        drawn.state = state
        drawn.is_touched = is_changed or state != drawn.drawn_state
        if state != "value":
            _forgive(drawn)
            drawn.value = MISSING if state == "absent" else None
        elif not drawn.is_touched and drawn.original is not MISSING:
            drawn.value = drawn.original
        elif drawn.kind == "list":
            # A row that could not be read keeps its place, so that the others' faults are told at the right one.
            drawn.value = [None if row.item.value is MISSING else row.item.value for row in rows]
        else:
            drawn.value = _assembled(drawn, rows)

    def _take_rows(self, drawn: Field) -> bool:
        """Read the rows that were sent; return whether they are others than before, or in another order."""
        indices = [text for text in self.post.many(drawn.rows_name) if text.isdecimal() and len(text) < 5]
        is_complete = self.post.one(drawn.end_name) is not None
        before = [row for row in drawn.rows if not row.is_spare]
        if not is_complete:
            drawn.rows = before
            for row in before:
                row.item.value = row.item.original
            return False
        known = {row.index: row for row in drawn.rows}
        drawn.rows = []
        for index in dict.fromkeys(map(int, indices)):
            try:
                row = known.get(index) or self.drawing.row(drawn, index, key=None if drawn.kind == "list" else "")
            except TooMany:
                drawn.faults.append("These are more rows than one form can take.")
                break
            self._take_row(drawn, row)
            if row.is_used or row.is_removed:
                drawn.rows.append(row)
        _refuse_double_keys(drawn)
        used = [row for row in drawn.rows if row.is_used]
        is_same = [row.index for row in used] == [row.index for row in before]
        return not is_same or (drawn.kind == "group" and [row.key for row in used] != given_rows(drawn))

    def _take_row(self, drawn: Field, row: FieldRow) -> None:
        self.take(row.item)
        is_key_touched = False
        if row.key is not None:
            sent = self.post.one(f"{row.name}.~key")
            is_key_touched = sent is not None and sent != row.key
            row.key = row.key if sent is None else sent
        row.is_removed = self.post.one(f"{row.name}.~remove") is not None
        is_added = self.post.one(f"{row.name}.~add") is not None
        row.is_used = not row.is_removed and (not row.is_spare or is_added or row.item.is_touched or is_key_touched)
        if not row.is_used:
            _forgive(row.item)
        elif row.is_spare and row.key == "":
            row.key_faults.append("Give it a name.")


def _refuse_double_keys(drawn: Field) -> None:
    taken = set(drawn.children)
    for row in drawn.rows:
        if row.key is not None and row.is_used:
            if row.key in taken:
                row.key_faults.append("This name is taken already.")
            taken.add(row.key)


def _forgive(drawn: Field) -> None:
    """Take back what was said of fields that do not count: they are empty, left out or removed."""
    drawn.faults.clear()
    for one in (*drawn.children.values(), *(row.item for row in drawn.rows)):
        _forgive(one)
    for row in drawn.rows:
        row.key_faults.clear()


def _assembled(drawn: Field, rows: list[FieldRow]) -> dict[str, Any]:
    given = drawn.original if isinstance(drawn.original, dict) else {}
    is_kept = drawn.children.keys() if drawn.takes_rows else given.keys()
    found = {key: value for key, value in given.items() if key in is_kept}
    found |= {key: child.value for key, child in drawn.children.items()}
    found |= {row.key: row.item.value for row in rows if row.key is not None}
    return {key: value for key, value in found.items() if value is not MISSING}


#: States of a field that has no value.
_NOT_SET = ("absent", "null")


def _is_meant_as_number(drawn: Field) -> bool:
    """Return whether a text that may be a number is one: as chosen, else as the original, else as it is written.

    0012 and 1.50 are texts: as numbers they would be written otherwise.
    """
    if drawn.state in ("text", "number"):
        return drawn.state == "number"
    if isinstance(drawn.original, str | int | float):
        return not isinstance(drawn.original, str)
    if drawn.shape.is_whole and not WHOLE.fullmatch(drawn.text):
        return False
    try:
        return write_json(read_number(drawn.text)) == drawn.text
    except NotJson:
        return False


def _text_value(text: str, original: Any) -> str:
    if not can_be_kept(text):
        raise NotJson(UNKEPT)
    return text.replace("\n", "\r\n") if isinstance(original, str) and has_plain_crlf(original) else text
