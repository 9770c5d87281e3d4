# ruff: noqa: RUF001
"""Every text of the corpus in every place where a page, a toast, the palette or the API shows one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import Message
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from ulid import ULID

from approvals import services
from approvals.models import Approval, ProposalVersion
from approvals.proposal.canonical import NotCanonical, canonicalise
from approvals.reading.arguments import ArgumentRow
from approvals.record import audit
from approvals.services import Answer
from console.text.diff import diff
from orchestration import checkpoint_gateway
from orchestration.checkpoint_gateway import CheckpointLine, Opened
from orchestration.models import Run
from orchestration.state import tree
from tests.api_caller import Caller

from .conftest import (
    SUMMARY_LENGTH,
    Elements,
    Open,
    ReadPage,
    hidden,
    made,
    not_shown,
    not_shown_as_json,
)
from .corpus import CORPUS, REFUSED, bundles

INBOX = reverse("approvals:inbox")
BY_SCRIPT = {"HX-Request": "true"}
NOTE_LENGTH = 4000
#: as long as anything in the corpus, in one line and in many: a page may fold either, with elements of its own
HARMLESS = ["plain", "x" * 30_000, "\n".join("line" for _ in range(400)), "12"]


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return str(response.content.decode())


def page_of(reader: Client, approval: Approval) -> str:
    """Return the part of a request's page that htmx fetches, which is the page without the list beside it."""
    return text_of(reader.get(reverse("approvals:approval", args=[approval.pk]), headers=BY_SCRIPT))


def elements_of(*pages: str) -> Elements:
    return set().union(*(ReadPage(page).elements for page in pages))


def test_the_corpus_is_large_and_says_what_must_show() -> None:
    assert len(CORPUS) >= 250
    assert len({hostile.source for hostile in CORPUS}) >= 30
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS)
    assert len({hostile.text for hostile in CORPUS}) == len(CORPUS)
    assert [name for bundle in bundles() for name in bundle] == [f"k{number:03}" for number in range(len(CORPUS))]


def test_the_page_of_a_request_shows_every_argument_whole(reader: Client, open_hostile: Open) -> None:
    plain = [page_of(reader, open_hostile("plain", arguments={"k000": text, "k001": text})) for text in HARMLESS]
    harmless = elements_of(*plain)
    faults = []
    for bundle in bundles():
        arguments = {name: hostile.text for name, hostile in bundle.items()}
        html = page_of(reader, open_hostile("plain", arguments=arguments))
        faults += made(html, harmless)
        rows = ReadPage(html).rows(bundle)
        for name, hostile in bundle.items():
            faults += not_shown(hostile, rows[name]) + hidden(hostile, html)
    assert faults == []


def test_summary_words_names_keys_and_comments_are_shown(reader: Client, alice: User, open_hostile: Open) -> None:
    def page(text: str) -> str:
        approval = open_hostile(text)
        note = text if text.strip() and len(text) <= NOTE_LENGTH else "no"
        answer = Answer(verdict="reject", version=approval.version, digest=approval.digest, note=note)
        services.decide(
            approval_id=approval.pk, reviewer=alice, given=answer, circumstances=services.Circumstances("page")
        )
        return page_of(reader, approval)

    harmless = elements_of(*map(page, HARMLESS))
    faults = []
    for hostile in CORPUS:
        html = page(hostile.text)
        read = ReadPage(html)
        faults += made(html, harmless) + hidden(hostile, html)
        faults += not_shown(hostile, read.after(read.first("words-")))
        if len(hostile.text) <= SUMMARY_LENGTH:
            faults += not_shown(hostile, read.titles[0]) + not_shown(hostile, read.after("approval-title"))
        if len(hostile.text) <= NOTE_LENGTH:
            faults += not_shown(hostile, read.after(read.first("decisions-")))
    assert faults == []


def test_the_title_of_the_whole_page_is_visible_and_closed(reader: Client, open_hostile: Open) -> None:
    for text in ("pay \u202e 100", "</title><script>window.canary(1)</script>", "раураӏ"):
        approval = open_hostile(text)
        html = text_of(reader.get(reverse("approvals:approval", args=[approval.pk]), {"search": approval.pk}))
        title = html[html.index("<title>") : html.index("</title>")]
        assert "\u202e" not in title + ReadPage(html).text and "<script>window" not in html
        assert any(part in title for part in ("⟨U+202E⟩", "&lt;/title&gt;&lt;script&gt;", "раураӏ⟨Cyrillic⟩"))


def test_a_refused_click_gives_back_what_was_typed_and_nothing_else(reader: Client, open_hostile: Open) -> None:
    """The comment comes back in a field, to be edited, so as it was typed; it must not leave the field."""
    approval = open_hostile("plain")

    def refused(note: str) -> str:
        sent = {"verdict": "reject", "version": "1", "digest": "0" * 64, "note": note}
        response = reader.post(reverse("approvals:decide", args=[approval.pk]), sent, headers=BY_SCRIPT)
        assert response.status_code in (409, 422)
        return str(response.content.decode())

    harmless = elements_of(refused("plain"), refused("x" * 4001), refused(""))
    assert [fault for hostile in CORPUS for fault in made(refused(hostile.text), harmless)] == []


def test_a_row_of_the_inbox_shows_the_summary(reader: Client, open_hostile: Open) -> None:
    for number in range(150):
        open_hostile(f"{HARMLESS[number % len(HARMLESS)]} {number}")
    listed = [text_of(reader.get(INBOX, {"limit": 200}, headers=BY_SCRIPT))]
    for text in HARMLESS * 2:  # again: a list may tell that it was asked before
        open_hostile(text)
    listed.append(text_of(reader.get(INBOX, {"limit": 200}, headers=BY_SCRIPT)))
    harmless = elements_of(*listed)
    faults = []
    for start in range(0, len(CORPUS), 150):
        Approval.objects.filter(status="pending").update(status="withdrawn")
        opened = {open_hostile(hostile.text).pk: hostile for hostile in CORPUS[start : start + 150]}
        html = text_of(reader.get(INBOX, {"limit": 200}, headers=BY_SCRIPT))
        faults += made(html, harmless)
        page = ReadPage(html)
        for pk, hostile in opened.items():
            faults += hidden(hostile, page.text)  # the values of the filters' choices are as they are
            if len(hostile.text) <= SUMMARY_LENGTH:
                faults += not_shown(hostile, page.after(f"row-{pk}"))
    assert faults == []


def test_the_form_for_a_change_is_inert(reader: Client, open_hostile: Open) -> None:
    def form(texts: dict[str, str]) -> str:
        described = {
            name: {"type": "string", "title": name + text[:200], "description": text} for name, text in texts.items()
        }
        schema = {"type": "object", "properties": described}
        approval = open_hostile("plain", arguments=texts, arguments_schema=schema)
        return text_of(reader.get(reverse("approvals:edit", args=[approval.pk])))

    marked = "hidden \u202e"  # a field whose text hides something has a part of its own that shows it
    plain = [*HARMLESS, marked, marked * 400, f"{marked}\n" * 90, "a\rb", f"a\r{marked}"]
    harmless = elements_of(*(form({"k0": text, "k1": text}) for text in plain))
    forms = [form({name: hostile.text for name, hostile in bundle.items()}) for bundle in bundles()]
    assert [fault for html in forms for fault in made(html, harmless)] == []


def test_a_difference_is_shown() -> None:
    def table(before: dict[str, str], after: dict[str, str]) -> str:
        context = {"changes": diff(before, after), "before_title": "Proposed", "after_title": "Shown"}
        return render_to_string("approvals/_diff.html", context)

    plain = [f"{text} \u202e" for text in [*HARMLESS, "\n".join(f"line {number}" for number in range(400))]]
    others = [text.replace("line 7\n", "line seven\n").replace("plain", "pläin") + "." for text in plain]
    pairs = [*zip(plain, others, strict=True), *zip(others, plain, strict=True), ("a b", "a\u202e b"), ("a", "a\n\n")]
    tables = [table({"k": before}, {"k": after}) for before, after in pairs]
    tables += [table({"k": text}, {"j": text}) for text in plain]
    harmless = elements_of(*tables)
    faults = []
    for bundle in bundles():
        texts = {name: hostile.text for name, hostile in bundle.items()}
        added, changed = table({}, texts), table({name: f"{text[:3000]}." for name, text in texts.items()}, texts)
        faults += made(added, harmless) + made(changed, harmless)
        rows = ReadPage(added).rows(bundle)
        for name, hostile in bundle.items():
            faults += not_shown_as_json(hostile, rows[name]) + hidden(hostile, added + changed)
    assert faults == []


def test_the_record_shows_who_and_what(reader: Client, ada: User, db: None) -> None:
    reader.force_login(ada)

    def page() -> str:
        return text_of(reader.get(reverse("approvals:record"), headers=BY_SCRIPT))

    def write(name: str, text: str) -> None:
        short = text[:100].replace("\x00", "")
        audit.record(actor=short, kind="approval.opened", subject=short, body={"at": name, "said": text[:5000]})

    for text in HARMLESS * 15:  # more than one page of them
        write("harmless", text)
    harmless = elements_of(page())
    faults = []
    for bundle in bundles():
        for name, hostile in reversed(bundle.items()):  # the newest comes first
            write(name, hostile.text)
        html = page()
        faults += made(html, harmless)
        rows = ReadPage(html).rows(bundle)
        for name, hostile in bundle.items():
            faults += hidden(hostile, html)
            if len(hostile.text) <= 5000:
                faults += not_shown_as_json(hostile, rows[name])
    assert faults == []


def test_a_card_in_evidence_is_inert(open_hostile: Open, db: None) -> None:
    approval = open_hostile("plain")
    version = ProposalVersion.objects.get(approval=approval)

    def card(text: str) -> str:
        rows = [ArgumentRow("value", json.dumps(text, ensure_ascii=False))]
        approval.agent = approval.agent_words = version.summary = text
        context = {"approval": approval, "version": version, "tool": text, "rows": rows, "who": text}
        return render_to_string("approvals/evidence_card.html", context | {"canonical": text})

    harmless = elements_of(*map(card, HARMLESS))
    faults = []
    for hostile in CORPUS:
        html = card(hostile.text)
        faults += made(html, harmless) + hidden(hostile, html) + not_shown(hostile, ReadPage(html).text)
    assert faults == []


def test_the_run_pages_show_what_went_in_and_came_out(reader: Client, open_hostile: Open) -> None:
    def pages(texts: dict[str, str]) -> tuple[str, str]:
        together = "\n".join(texts.values())
        run = Run.objects.create(
            id=f"support-{str(ULID()).lower()}",
            agent="support",
            input=texts,
            input_digest="0" * 64,
            status=Run.Status.FAILED,
            error={"kind": together[:100], "message": together},
            result=texts,
        )
        for text in texts.values():
            open_hostile("plain", run_id=run.pk, summary=text[:SUMMARY_LENGTH])
        listed = reader.get(reverse("orchestration:runs"), {"search": run.pk}, headers=BY_SCRIPT)
        return text_of(reader.get(reverse("orchestration:run", args=[run.pk]))), text_of(listed)

    harmless = [pages({f"k{n}": text for n in range(number)}) for text in HARMLESS for number in (1, 40)]
    of_page, of_list = (elements_of(*pages) for pages in zip(*harmless, strict=True))
    faults = []
    for bundle in bundles():
        page, listed = pages({name: hostile.text for name, hostile in bundle.items()})
        faults += made(page, of_page) + made(listed, of_list)
        read = ReadPage(page)
        for hostile in bundle.values():
            faults += hidden(hostile, page + listed) + not_shown(hostile, read.after("run-now"))
            faults += not_shown_as_json(hostile, read.after("run-io"))
    assert faults == []


def test_a_checkpoint_shows_its_values(reader: Client, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.objects.create(id="support-checkpoint", agent="support", input={}, input_digest="0" * 64)
    held = SimpleNamespace(texts={}, first="")

    def values(thread_id: str, checkpoint_id: str) -> Opened:
        named = held.texts | {text[:80]: 1 for text in held.texts.values()}
        task = {"id": "t1", "path": held.first, "writes": {held.first: held.first}}
        return Opened(checkpoint_id, None, "", named, [held.first], [task], {held.first: held.first})

    def lines(thread_id: str, *, limit: int, **_: Any) -> list[CheckpointLine]:
        fields: dict[str, Any] = dict.fromkeys(CheckpointLine.__dataclass_fields__)
        fields |= {"at": datetime.now(UTC), "changed": (held.first,), "step": 1}
        nodes = [text[:80] for text in held.texts.values()]
        return [
            CheckpointLine(**fields | {"checkpoint_id": "c1", "node": node, "next": [node]}) for node in nodes[:limit]
        ]

    monkeypatch.setattr(checkpoint_gateway, "checkpoint_of", values)
    monkeypatch.setattr(checkpoint_gateway, "checkpoints_of", lines)

    def pages(texts: dict[str, str]) -> tuple[str, str]:
        held.texts, held.first = texts, next(iter(texts.values()))[:80]
        opened = reader.get(reverse("orchestration:checkpoint", args=[run.pk, "c1"]))
        return text_of(opened), text_of(reader.get(reverse("orchestration:run", args=[run.pk])))

    harmless = [pages({f"k{n}": text for n in range(number)}) for text in HARMLESS for number in (1, 5, 40)]
    of_page, of_run = (elements_of(*pages) for pages in zip(*harmless, strict=True))
    faults = []
    for bundle in bundles():
        page, run_page = pages({name: hostile.text for name, hostile in bundle.items()})
        faults += made(page, of_page) + made(run_page, of_run)
        rows = ReadPage(page).rows(bundle)
        for name, hostile in bundle.items():
            faults += hidden(hostile, page + run_page)
            if len(hostile.text) <= tree.TEXT:
                faults += not_shown_as_json(hostile, rows[name])
            elif "Load the rest" not in rows[name]:
                faults.append(f"{name} does not say that it is cut")
    assert faults == []


def test_the_palette_shows_titles(reader: Client, open_hostile: Open) -> None:
    faults = []
    for hostile in CORPUS:
        approval = open_hostile(hostile.text)
        response = reader.get(reverse("console:search"), {"q": approval.pk})
        assert response["Content-Type"] == "application/json"
        [item] = response.json()["items"]
        faults += hidden(hostile, item["title"])
        faults += not_shown(hostile, item["title"]) if len(hostile.text) <= SUMMARY_LENGTH else []
        assert item["url"] == reverse("approvals:approval", args=[approval.pk])
    assert faults == []


def test_a_toast_shows_its_words(db: None) -> None:
    def toasts(*texts: str) -> str:
        frame = {"name": "alice", "roles": [], "notices": []}
        said = [Message(20, text) for text in texts]
        return render_to_string("console/base.html", {"messages": said, "frame": frame})

    html = toasts(*(hostile.text for hostile in CORPUS))
    text = ReadPage(html).after("toasts")
    faults = made(html, elements_of(toasts("plain")))
    assert faults + [fault for one in CORPUS for fault in hidden(one, html) + not_shown(one, text)] == []


def test_the_api_carries_the_text_exactly(alice: User, open_hostile: Open) -> None:
    """Programs get the bytes that the digest covers, not what a person is shown."""
    caller = Caller(alice)
    for bundle in bundles():
        texts = {name: hostile.text for name, hostile in bundle.items()}
        approval = open_hostile("plain", arguments=texts, agent_words="\n".join(texts.values()))
        response = caller.get(f"approvals/{approval.pk}")
        assert response.status_code == 200
        assert response["Content-Type"].startswith("application/json")
        assert response["X-Content-Type-Options"] == "nosniff"
        body = response.json()
        assert body["canonical"].encode() == bytes(approval.canonical)
        assert body["arguments"] == texts
        assert body["agent_words"] == "\n".join(texts.values())


@pytest.mark.parametrize(("value", "word"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_cannot_be_shown_is_refused_in_a_sentence(value: object, word: str) -> None:
    with pytest.raises(NotCanonical, match=r"^[A-Z].*\.$") as refused:
        canonicalise("pay", {"value": value})
    assert word in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "arguments",
    [
        {f"key{number}": number for number in range(5000)},
        {"text": "раураӏ \u202e" * 9_000},
        {"text": "word " * 50_000},
        {"lines": ["x\n" * 50] * 1500},
        {"a": [[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]},
    ],
    ids=["5,000 keys", "marks", "256 KiB", "75,000 lines", "deep"],
)
def test_large_arguments_are_shown_in_full(reader: Client, open_hostile: Open, arguments: dict[str, Any]) -> None:
    shown = ReadPage(page_of(reader, open_hostile("plain", arguments=arguments))).text
    shown = shown[shown.index("What will be done") : shown.index("own words")]
    for key, value in arguments.items():
        assert key in shown
        if isinstance(value, str):
            assert shown.count(value.split()[0]) >= value.count(value.split()[0])
    assert "…" not in shown
