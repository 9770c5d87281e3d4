from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.contents.passages import content_digest
from dataplane.errors import HandbookInvalid
from dataplane.flows.transforms import parse_document, split_document

from .conftest import passage

FRONT = "---\ntitle: Returns\neffective: 2026-03-01\nstatus: current\ntopics: returns, refunds\n---\n"


def test_a_document_becomes_its_sections_with_the_front_matter_beside_them() -> None:
    document = parse_document("returns.md", FRONT + "Before.\n\n## Who may return\nAll.\n\n## How\nBy post.\n")
    assert (document.title, document.effective, document.topics) == ("Returns", date(2026, 3, 1), "returns, refunds")
    assert [(part.heading, part.text) for part in document.sections] == [
        ("", "Before."),
        ("Who may return", "All."),
        ("How", "By post."),
    ]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("# Returns\n", "returns.md does not begin with front matter"),
        ("---\ntitle: Returns\n", "returns.md does not begin with front matter"),
        ("---\nstatus: current\n---\n## A\nb\n", "returns.md has no title"),
        (FRONT, "returns.md has no text"),
        ("---\ntitle: A\neffective: soon\n---\n## A\nb\n", "returns.md: effective is 'soon'"),
        ("---\ntitle: A\nowner: bob\n---\n## A\nb\n", "returns.md: the front matter line 'owner: bob'"),
    ],
)
def test_a_document_with_a_mistake_is_refused_by_its_name(source: str, sentence: str) -> None:
    with pytest.raises(HandbookInvalid, match=sentence):
        parse_document("returns.md", source)


@given(st.lists(st.text(alphabet="ab \n", min_size=1, max_size=400), min_size=1, max_size=5), st.integers(20, 300))
def test_splitting_loses_no_letter_and_keeps_to_the_length(paragraphs: list[str], longest: int) -> None:
    body = "\n\n".join(paragraphs)
    if not body.strip():
        return
    document = parse_document("a.md", FRONT + "## A\n" + body)
    pieces = [row.text for row in split_document(document, passage_characters=longest)]
    assert all(0 < len(piece) <= longest for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(body.split())


def test_the_digest_changes_with_the_words_and_with_the_model() -> None:
    one, other = passage("Thirty days."), passage("Fourteen days.")
    digests = {
        content_digest([one, other], embedder="a"),
        content_digest([other, one], embedder="a"),
        content_digest([one], embedder="a"),
        content_digest([one, other], embedder="b"),
    }
    assert len(digests) == 4
    assert content_digest([passage("Thirty days.")], embedder="a") == content_digest([one], embedder="a")
