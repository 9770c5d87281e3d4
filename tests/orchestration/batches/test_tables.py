"""A table becomes inputs exactly: what the schema says of a column, and nothing that is guessed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from orchestration.agents.arguments import schema_of
from orchestration.batches import tables
from orchestration.batches.tables import NoTable, TableRow, decoded, read_table


class Place(BaseModel):
    city: str


class Given(BaseModel):
    name: str
    count: int = 0
    ratio: float = 0
    price: Decimal = Decimal(0)
    wanted: bool = False
    note: str | None = None
    limit: int | None = None
    level: Literal[1, 2] = 1
    kind: Literal["a", "b"] = "a"
    place: Place | None = None
    tags: list[str] = []


SCHEMA = schema_of(Given)


def read(text: str) -> list[TableRow]:
    return read_table(text, SCHEMA)


def given(text: str) -> list[dict[str, Any]]:
    found = read(text)
    assert [row.errors for row in found if row.errors] == []
    return [row.given for row in found]


def test_every_cell_becomes_what_the_schema_says_of_its_column() -> None:
    head = "name,count,ratio,price,wanted,note,limit,level,kind,place,tags"
    row = '007,42,3.5,3.10,true,null,null,2,b,"{""city"": ""Bern""}","[""x""]"'
    assert given(f"{head}\n{row}\n") == [
        {
            "name": "007",
            "count": 42,
            "ratio": 3.5,
            "price": "3.10",
            "wanted": True,
            "note": "null",  # a text may be any text
            "limit": None,
            "level": 2,
            "kind": "b",
            "place": {"city": "Bern"},
            "tags": ["x"],
        }
    ]


def test_an_empty_cell_is_no_value_and_a_quoted_one_is_the_empty_text() -> None:
    assert given('name,note\n"",\n,""\n') == [{"name": ""}, {"note": ""}]


@pytest.mark.parametrize("text", ["TRUE", "false", "True"])
def test_a_boolean_is_written_out(text: str) -> None:
    assert given(f"name,wanted\nx,{text}\n") == [{"name": "x", "wanted": text.lower() == "true"}]


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("wanted", "yes", "Write true or false."),
        ("wanted", "1", "Write true or false."),
        ("count", '"3,5"', "Type a number in digits"),
        ("count", "1.000.000", "Type a number in digits"),
        ("count", "007", "Type a number in digits"),
        ("ratio", "0.1234567890123456789", "cannot be kept exactly"),
        ("ratio", "NaN", "Type a number in digits"),
        ("limit", '""', "Type a number in digits"),
        ("place", "Bern", "This is no JSON"),
    ],
)
def test_what_is_not_of_its_type_is_said_and_not_bent(column: str, cell: str, words: str) -> None:
    (row,) = read(f"name,{column}\nx,{cell}\n")
    assert [(path, words in message) for path, message in row.errors] == [(column, True)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_usual_form_of_csv_is_read(separator: str, end: str) -> None:
    text = end.join(["name;note;count", f'a;"b ""c"" ;,d{end}e";1', "", "f;g;2"])
    text = text.replace(";", separator)
    expected = 'b "c" ;,d\ne'.replace(";", separator)
    assert given("\ufeff" + text) == [
        {"name": "a", "note": expected, "count": 1},
        {"name": "f", "note": "g", "count": 2},
    ]


def test_excels_word_about_the_separator_is_heeded_and_lines_are_counted_with_it() -> None:
    (row,) = read('sep=|\nname|wanted\n"a\nb"|perhaps\n')
    assert (row.line, row.given, row.errors) == (3, {"name": "a\nb"}, [("wanted", "Write true or false.")])


def test_a_row_knows_its_line_also_behind_cells_of_several_lines() -> None:
    assert [row.line for row in read('name\n"a\nb\nc"\n\nd\n')] == [2, 6]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("\ufeff \n", "no rows"),
        ("name,count\n", "no row under it"),
        ("name,cuont\nx,1\n", "nothing called “cuont”"),
        ("name,name\nx,y\n", "Two columns are called “name”"),
        ("name,\nx,y\n", "A column has no name"),
        ('name\n"x\n', "line 2 is never closed"),
        ('name\n"x"y\n', "follows a closing quotation mark"),
        ('[{"name": "x"}', "no JSON"),
    ],
)
def test_what_is_no_table_is_said(text: str, words: str) -> None:
    with pytest.raises(NoTable, match=words):
        read(text)


def test_a_head_of_very_many_columns_is_read() -> None:
    """A search that compares each with each would not come back here."""
    names = [f"c{number}" for number in range(300_000)]
    found = read_table(",".join(names) + "\n1\n", {"properties": {}, "additionalProperties": True})
    assert [(row.line, len(row.errors)) for row in found] == [(2, 1)]


def test_a_row_with_other_cells_than_the_head_is_wrong_by_itself() -> None:
    found = read("name,note\na,b,c\nd\ne,f\n")
    assert [(row.line, bool(row.errors)) for row in found] == [(2, True), (3, True), (4, False)]


def test_json_lines_and_a_json_list_say_the_same() -> None:
    lines = '{"name": "x", "count": 1}\n\n{"name": "y", "price": "1.10"}\n'
    listed = '[{"name": "x", "count": 1}, {"name": "y", "price": "1.10"}]'
    assert given(lines) == given(listed) == [{"name": "x", "count": 1}, {"name": "y", "price": "1.10"}]


@pytest.mark.parametrize("line", ["7", "[1]", '{"a": 1, "a": 2}', '{"name": 1e', '{"ratio": 0.1234567890123456789}'])
def test_a_line_that_is_no_exact_object_is_wrong_by_itself(line: str) -> None:
    found = read('{"name": "x"}\n' + line)
    assert [(row.line, bool(row.errors)) for row in found] == [(1, False), (2, True)]


def test_more_rows_than_a_batch_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 2)
    with pytest.raises(NoTable, match="These are 3 rows"):
        read("name\na\nb\nc\n")


def test_a_file_is_utf_8_or_says_what_else_it_is() -> None:
    assert decoded("\ufeffä".encode()) == decoded("ä".encode("utf-16")) == "ä"
    with pytest.raises(NoTable, match="Line 2 is not UTF-8"):
        decoded(b"name\n\xe4\n")
