"""From Markdown files to passages. Pure: no database, no Prefect, no clock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from console.text.stored import can_be_kept
from dataplane.contents.passages import PassageRow
from dataplane.errors import HandbookInvalid

_HEADING = re.compile(r"^##\s+(.+?)\s*#*\s*$")
FIELDS = frozenset({"title", "effective", "status", "topics"})
MOST_BYTES = 2_000_000  # of one document
#: characters that a field has room for, in its column
MOST_CHARACTERS = {"title": 300, "status": 40, "topics": 300}
MOST_HEADING = 300
MOST_NAME = 200


@dataclass(frozen=True)
class Section:
    """A part of a document below one heading."""

    heading: str  # empty for what stands before the first one
    text: str


@dataclass(frozen=True)
class Document:
    """One policy, as its file says."""

    name: str  # path below the handbook's folder
    title: str
    effective: date | None
    status: str
    topics: str
    sections: tuple[Section, ...]


def parse_document(name: str, source: str) -> Document:
    """Read one file: front matter between two lines of `---`, then sections that begin with `## `.

    Raises HandbookInvalid, naming the file and what is wrong with it.
    """
    if not source.strip():
        raise HandbookInvalid(f"{name} is empty.")
    if not can_be_kept(source):
        raise HandbookInvalid(f"{name} holds the character U+0000, which no text may hold here.")
    if len(name) > MOST_NAME:
        raise HandbookInvalid(f"{name[:60]}... has a path of {len(name)} characters; {MOST_NAME} are kept.")
    lines = source.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        raise HandbookInvalid(f"{name} does not begin with front matter between two lines of ---.")
    end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == "---")
    fields = _front_matter(name, lines[1:end])
    sections = tuple(_sections(lines[end + 1 :]))
    if not fields.get("title"):
        raise HandbookInvalid(f"{name} has no title.")
    if not sections:
        raise HandbookInvalid(f"{name} has no text.")
    for field, most in MOST_CHARACTERS.items():
        if len(fields.get(field, "")) > most:
            raise HandbookInvalid(f"{name}: {field} has more than {most} characters.")
    for section in sections:
        if len(section.heading) > MOST_HEADING:
            raise HandbookInvalid(f"{name}: the heading {section.heading[:40]!r}... is longer than {MOST_HEADING}.")
    return Document(
        name=name,
        title=fields["title"],
        effective=_day(name, fields.get("effective", "")),
        status=fields.get("status", ""),
        topics=fields.get("topics", ""),
        sections=sections,
    )


def _front_matter(name: str, lines: Sequence[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        if not line.strip():
            continue
        field, colon, value = line.partition(":")
        field = field.strip()
        if not colon or field not in FIELDS:
            known = ", ".join(sorted(FIELDS))
            raise HandbookInvalid(f"{name}: the front matter line {line.strip()!r} is none of {known}.")
        fields[field] = value.strip().strip("[]\"'")
    return fields


def _day(name: str, text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as exc:
        raise HandbookInvalid(f"{name}: effective is {text!r}, not a day such as 2026-11-01.") from exc


def _sections(lines: Sequence[str]) -> Iterator[Section]:
    heading, body = "", list[str]()
    for line in [*lines, "## end"]:
        found = _HEADING.match(line)
        if found is None:
            body.append(line)
            continue
        text = "\n".join(body).strip()
        if text:
            yield Section(heading, text)
        heading, body = found.group(1), []


def split_document(document: Document, *, passage_characters: int) -> Iterator[PassageRow]:
    """Yield the document's passages in order: one per section, long sections cut between paragraphs."""
    for section in document.sections:
        for text in _cut(section.text, passage_characters):
            yield PassageRow(
                document=document.name,
                title=document.title,
                heading=section.heading,
                text=text,
                effective=document.effective,
                status=document.status,
                topics=document.topics,
            )


def _cut(text: str, longest: int) -> Iterator[str]:
    """Yield pieces of at most `longest` characters, between paragraphs if possible, else words."""
    piece = ""
    for paragraph in text.split("\n\n"):
        if piece and len(piece) + 2 + len(paragraph) > longest:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}" if piece else paragraph
        while len(piece) > longest:
            cut = piece.rfind(" ", 1, longest + 1)
            cut = cut if cut > 0 else longest
            yield piece[:cut].rstrip()
            piece = piece[cut:].lstrip()
    if piece:
        yield piece


def embedded_text(row: PassageRow) -> str:
    """Return what the passage's vector is made of: its place in the handbook and its words."""
    return "\n".join(part for part in (row.title, row.heading, row.topics, row.text) if part)
