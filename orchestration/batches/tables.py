"""Read a table of inputs: CSV, JSON lines or a JSON list. Nothing is guessed and no digit is lost.

A cell of CSV becomes what the agent's schema says of its column. An empty cell is no value at all; `""` in quotes is
the empty text. A line end inside of quotes is a line feed, however it was written. What does not become its type stays
in the error, in words, with the line that it stands in.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from console.text.json_text import NotJson, read_exactly, read_number

MOST_ROWS: Final = 50_000
LARGEST_TEXT: Final = 32 * 1024 * 1024  # bytes
LONGEST_CELL: Final = 100_000  # characters
SEPARATORS: Final = (",", ";", "\t")


class NoTable(ValueError):
    """The text cannot be read as a table at all; the message says what to do."""


@dataclass
class TableRow:
    """One row. `errors`: [(path inside the input, sentence)]; `line`: of the text, from 1."""

    line: int
    given: dict[str, Any] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)


def decoded(raw: bytes) -> str:
    """Return a file's text: UTF-8, or UTF-16 that says so. Raises NoTable."""
    if len(raw) > LARGEST_TEXT:
        raise NoTable(f"The file is larger than {LARGEST_TEXT // 1024**2} MB, the most that is read at once.")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as exc:
        line = raw[: exc.start].count(b"\n") + 1
        raise NoTable(f"Line {line} is not UTF-8. Save the file as “CSV UTF-8” and send it again.") from exc


def read_table(text: str, schema: dict[str, Any]) -> list[TableRow]:
    """Return the rows of a table in whichever of the three forms it is. Raises NoTable.

    `schema`: of the agent's input, as JSON Schema.
    """
    text = text.removeprefix("\ufeff")
    begin = text.lstrip()[:1]
    if not begin:
        raise NoTable("There are no rows here. Paste a table: the names of the columns first, a row on each line.")
    rows = _list(text) if begin == "[" else _json_lines(text) if begin == "{" else _csv(text, schema)
    if not rows:
        raise NoTable("There is a head and no row under it.")
    if len(rows) > MOST_ROWS:
        raise NoTable(f"These are {len(rows):,} rows; a batch has at most {MOST_ROWS:,}. Make several of it.")
    return rows


def _list(text: str) -> list[TableRow]:
    try:
        found = read_exactly(text)
    except NotJson as exc:
        raise NoTable(str(exc)) from exc
    return [_row(number, one) for number, one in enumerate(found, start=1)]


def _json_lines(text: str) -> list[TableRow]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_row(number, read_exactly(line)))
        except NotJson as exc:
            words = str(exc).replace("line 1, column", "column")
            rows.append(TableRow(number, errors=[("", words)]))
    return rows


def _row(line: int, value: Any) -> TableRow:
    if isinstance(value, dict):
        return TableRow(line, value)
    return TableRow(line, errors=[("", "Each row is an object with names, like {“order_id”: “1”}.")])


# CSV


@dataclass(frozen=True)
class TableCell:
    """One cell as it was written; whether it stood in quotes makes an empty one a text."""

    text: str
    is_quoted: bool

    @property
    def is_given(self) -> bool:
        return self.is_quoted or self.text != ""


def _csv(text: str, schema: dict[str, Any]) -> list[TableRow]:
    first, _, below = text.partition("\n")
    separator, skipped = "", 0
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:  # as Excel says it
        separator, text, skipped = first.strip()[4], below, 1
    lines = list(_records(text, separator or _separator(text)))
    if not lines:
        raise NoTable("There are no rows here. Paste a table: the names of the columns first, a row on each line.")
    (_, head), *body = lines
    readers = _readers([cell.text.strip() for cell in head], schema)
    return [_read_row(line + skipped, cells, readers) for line, cells in body]


def _separator(text: str) -> str:
    """Return what stands between the names of the columns, where it is outside of quotes."""
    head, is_quoted = "", False
    for char in text:
        if char == '"':
            is_quoted = not is_quoted
        elif not is_quoted and char in "\r\n":
            if head.strip():
                break
            head = ""
        elif not is_quoted:
            head += char
    return max(SEPARATORS, key=head.count)


def _records(text: str, separator: str) -> Iterator[tuple[int, list[TableCell]]]:
    """Go through the rows with the line that each begins in; empty lines are none. Raises NoTable."""
    cells: list[TableCell] = []
    place, line, begun = 0, 1, 1
    length = len(text)
    while place < length:
        cell, place, crossed = _cell(text, place, separator, line)
        cells.append(cell)
        line += crossed
        if place < length and text[place] == separator:
            place += 1
            if place < length:
                continue
            cells.append(TableCell("", False))
        if text.startswith("\r\n", place):
            place += 2
        elif place < length:
            place += 1
        if len(cells) > 1 or cells[0].is_given:
            yield begun, cells
        cells, line = [], line + 1
        begun = line


def _cell(text: str, place: int, separator: str, line: int) -> tuple[TableCell, int, int]:
    """Return the cell that begins here, where it ends, and how many line ends are in it. Raises NoTable."""
    if text[place] != '"':
        end = place
        while end < len(text) and text[end] not in (separator, "\r", "\n"):
            end += 1
        return TableCell(_short(text[place:end], line), False), end, 0
    parts, begin = [], place + 1
    while True:
        end = text.find('"', begin)
        if end < 0:
            raise NoTable(f"The quotation mark in line {line} is never closed.")
        parts.append(text[begin:end])
        if text[end + 1 : end + 2] != '"':
            break
        parts.append('"')
        begin = end + 2
    # A browser sends each line end of a form as CRLF, so only one kind can mean the same at every door.
    inside, after = "".join(parts).replace("\r\n", "\n").replace("\r", "\n"), end + 1
    if after < len(text) and text[after] not in (separator, "\r", "\n"):
        raise NoTable(
            f"In line {line} something follows a closing quotation mark. A quotation mark inside of quotes is "
            "written twice."
        )
    return TableCell(_short(inside, line), True), after, inside.count("\n")


def _short(text: str, line: int) -> str:
    if len(text) > LONGEST_CELL:
        raise NoTable(f"A cell in line {line} is longer than {LONGEST_CELL:,} characters.")
    return text


@dataclass(frozen=True)
class Column:
    """How a column's cells are read. `types`: JSON's names of what the schema allows; empty: anything."""

    name: str
    types: frozenset[str]
    choices: tuple[Any, ...] = ()

    @property
    def is_json(self) -> bool:
        """Return whether a cell holds JSON: a list, or an object."""
        is_plain = bool(self.choices) or bool(self.types & {"string", "integer", "number"})
        return not is_plain and bool(self.types & {"object", "array"})

    def read(self, cell: TableCell) -> Any:
        """Return the cell's value. Raises NotJson, whose message says what to write."""
        if self.choices:
            return self._chosen(cell.text)
        if not self.types or "string" in self.types:
            return cell.text
        text = cell.text.strip()
        if "null" in self.types and text == "null":
            return None
        if "boolean" in self.types and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if self.types & {"integer", "number"}:
            return read_number(text)
        if self.types & {"object", "array"}:
            return read_exactly(text)
        raise NotJson("Write true or false.")

    def _chosen(self, text: str) -> Any:
        """Return the choice that is written so; the text itself where it is none, for the agent's model to refuse."""
        return next((one for one in self.choices if text == (one if isinstance(one, str) else json.dumps(one))), text)


def columns_of(schema: dict[str, Any]) -> list[Column]:
    """Return the columns that the agent's input names, in its order."""
    return [_column(str(name), part, schema) for name, part in schema.get("properties", {}).items()]


def _readers(names: list[str], schema: dict[str, Any]) -> list[Column]:
    """Return how each column is read. Raises NoTable for names that mean nothing or two things."""
    known = {str(name): part for name, part in schema.get("properties", {}).items()}
    takes_more = schema.get("additionalProperties", False)
    times = Counter(names)
    for name in names:
        if not name:
            raise NoTable("A column has no name. The first row holds the names of the agent's input.")
        if times[name] > 1:
            raise NoTable(f"Two columns are called “{name[:60]}”. Leave one of them out.")
        if name not in known and takes_more in (False, None):
            raise NoTable(
                f"The agent's input has nothing called “{name[:60]}”. It has: {', '.join(known) or 'nothing'}. The "
                "first row holds these names."
            )
    return [_column(name, known.get(name, {}), schema) for name in names]


def _column(name: str, part: Any, schema: dict[str, Any]) -> Column:
    types: set[str] = set()
    choices: list[Any] = []
    for one in _branches(part, schema, 0):
        if "enum" in one or "const" in one:
            choices += one.get("enum", [one.get("const")])
            continue
        told = one.get("type", [])
        types |= {told} if isinstance(told, str) else set(told)
    if types & {"string"}:
        choices = []  # any text fits, a choice among them too
    return Column(name, frozenset(types), tuple(choices))


def _branches(part: Any, schema: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Go through what a value may be, past references."""
    if not isinstance(part, dict) or depth > 20:
        return
    if "$ref" in part:
        yield from _branches(_referred(part["$ref"], schema), schema, depth + 1)
        return
    parts = [one for key in ("anyOf", "oneOf", "allOf") for one in part.get(key, [])]
    if not parts:
        yield part
    for one in parts:
        yield from _branches(one, schema, depth + 1)


def _referred(reference: str, schema: dict[str, Any]) -> Any:
    found: Any = schema
    for step in reference.removeprefix("#/").split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found


def _read_row(line: int, cells: list[TableCell], columns: list[Column]) -> TableRow:
    row = TableRow(line)
    if len(cells) != len(columns):
        words = f"This row has {len(cells)} cells and the head has {len(columns)}."
        row.errors.append(("", f"{words} A separator inside of a text wants the text in quotes."))
        return row
    for cell, column in zip(cells, columns, strict=True):
        if not cell.is_given:
            continue
        try:
            row.given[column.name] = column.read(cell)
        except NotJson as exc:
            row.errors.append((column.name, str(exc)))
    return row
