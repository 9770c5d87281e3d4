"""Every text of the corpus on the pages of the team, as what somebody wrote and as the name of whoever wrote it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.errors import AlreadyClaimed, AlreadyClosed
from approvals.models import Approval, Comment, Decision, Delegation, SavedView, StandingApproval
from approvals.pages.team.forms import StandingForm, StandingRow
from approvals.reading.attention import Attention
from approvals.reading.bulk import ArgumentCell, BulkLine, Group, Item, Result
from approvals.reading.standing import Given
from approvals.reading.team import Claim, Person, Team
from approvals.record.closings import RequestClosing
from approvals.services import Answer
from console.clock import database_now

from .conftest import (
    HARMLESS,
    SHOWN,
    TOGETHER,
    Elements,
    Open,
    ReadPage,
    hidden_from_readers,
    name_reviewers,
    not_shown,
    not_shown_as_json,
    read_with_fields,
)
from .corpus import CORPUS


def _write(alice: User, open_hostile: Open, texts: list[str]) -> list[Approval]:
    """Write the texts wherever people and agents can, each by a person of that name; return what waits."""
    now = database_now()
    window = {"starts_at": now, "ends_at": now + timedelta(days=1)}
    opened = []
    for text, by in zip(texts, name_reviewers(texts), strict=True):
        one = open_hostile(text, risk="low", arguments={"n": 1}, requested_by_id=by.pk)
        terms = one.terms | {"rule": text[:80]}
        Approval.objects.filter(pk=one.pk).update(claimed_by=by, claimed_at=now, terms=terms)
        SavedView.objects.create(owner=by, name=text[:60], query="?tool=x", is_shared=True)
        Delegation.objects.create(principal=by, delegate=alice, made_by=by, reason=text[:300], **window)
        StandingApproval.objects.create(
            agent=one.agent,
            tool=one.tool,
            conditions=[{"path": text[:200], "is": text}, {"path": "n", "is": 1}],
            reason=text[:500],
            made_from=one,
            made_by=by,
            expires_at=now + timedelta(days=1),
            uses_at_most=3,
        )
        opened.append(one)
    Comment.objects.bulk_create(
        Comment(approval=opened[0], by=one.requested_by, text=text[:4000])
        for one, text in zip(opened, texts, strict=True)
    )
    return opened


def _decide(opened: list[Approval], texts: list[str]) -> None:
    """Reject each in the name of the one before, so that nothing comes of it in time."""
    for place, (one, text) in enumerate(zip(opened, texts, strict=True)):
        by = opened[place - 1].requested_by
        assert by is not None
        given = Answer("reject", one.version, one.digest, text.strip()[:4000] or "no")
        services.decide(approval_id=one.pk, reviewer=by, given=given, circumstances=services.Circumstances("page"))
    late = database_now() - timedelta(hours=1)
    Approval.objects.filter(pk__in=[one.pk for one in opened]).update(expected_by=late)


def _pages(reader: Client, alice: User, open_hostile: Open, texts: list[str]) -> dict[str, ReadPage]:
    """Return the pages by what they are about, read while the requests wait and after they were decided."""
    texts = [text.replace("\x00", "") for text in texts]

    def read(name: str, *args: str, **asked: list[str]) -> ReadPage:
        response = reader.get(reverse(f"approvals:{name}", args=args), asked)
        assert response.status_code == 200, (name, response.status_code)
        return read_with_fields(response.content.decode())

    with transaction.atomic():
        opened = _write(alice, open_hostile, texts)
        pages = {name: read(name) for name in ("standing", "delegations", "views", "inbox")}
        pages["team"] = read("team", opened[0].pk)
        pages["review"] = read("review", id=[one.pk for one in opened])
        _decide(opened, texts)
        pages |= {name: read(name) for name in ("lane", "reviewers")}
        items = [f"{one.pk}:{one.version}:{one.digest}" for one in opened[:1]]
        sent = reader.post(reverse("approvals:decide_together"), {"item": items, "verdict": "reject", "note": "no"})
        pages["together"] = read_with_fields(sent.content.decode())
        assert "Already decided: rejected by" in pages["together"].text
        transaction.set_rollback(True)
    return pages


#: how often a page shows a text; once where nothing is said
TIMES = {"standing": 6, "delegations": 4, "views": 2, "team": 3, "review": 3, "lane": 3, "reviewers": 3, "together": 0}


@pytest.mark.django_db
def test_no_page_of_the_team_hides_a_character_or_makes_an_element(
    reader: Client, ada: User, open_hostile: Open
) -> None:
    ada.groups.add(*User.objects.get(username="alice").groups.all())
    reader.force_login(ada)
    listed = [_pages(reader, ada, open_hostile, texts) for texts in (HARMLESS[:2], HARMLESS)]
    harmless: dict[str, Elements] = {name: listed[0][name].elements | listed[1][name].elements for name in listed[0]}
    faults = []
    for start in range(0, len(CORPUS), TOGETHER):
        bundle = CORPUS[start : start + TOGETHER]
        for name, page in _pages(reader, ada, open_hostile, [hostile.text for hostile in bundle]).items():
            found = [f"an element {one}" for one in page.elements - harmless[name]]
            for hostile in bundle:
                found += hidden_from_readers(hostile, page)
                found += not_shown(hostile, page.text, TIMES.get(name, 1)) if len(hostile.text) <= SHOWN else []
            faults += [f"{name}: {fault}" for fault in found]
    assert faults == []


def _approval(text: str, **changes: object) -> Approval:
    """Return an approval that is in no database."""
    digest, now = "0" * 64, database_now()
    fields = {"tool": text, "agent": text, "summary": text, "agent_words": text, "run_id": text, "risk": "low"}
    asker = User(username=text)
    return Approval(**fields | {"digest": digest, "canonical": b"{}", "due_at": now, "requested_by": asker} | changes)


def _team_part(text: str) -> str:
    """Return the team's page of one request: who has claimed it, who looks, whom it can be handed to, what is said."""
    approval, now = _approval(text), database_now()
    people = [Person(text, text), Person(text, text)]
    said = [Comment(pk=1, approval=approval, by=User(username=text), text=text, at=now)]
    claim = Claim(text, 2, now, now + timedelta(minutes=30))
    team = Team(approval, True, claim, False, True, True, True, [text], people, said, 0)
    exact = json.dumps(text, ensure_ascii=False)
    form = StandingForm(approval, [StandingRow(1, text, exact, True, fault=text)], faults={"reason": text})
    frame = {"name": text, "roles": [], "notices": []}
    context = {"team": team, "fault": str(AlreadyClaimed(text)), "typed": text, "standing": form, "frame": frame}
    return render_to_string("approvals/team.html", context | {"attention": Attention("ok", text), "haste": None})


def _standing_card(text: str) -> str:
    """Return one standing approval on its own page, taken back by somebody, with a use."""
    approval, now, person = _approval(text), database_now(), User(username=text)
    standing = StandingApproval(
        tool=text,
        agent=text,
        reason=text,
        made_by=person,
        made_at=now,
        made_from=approval,
        revoked_by=person,
        revoked_at=now,
        uses=1,
        uses_at_most=3,
    )
    uses = [Decision(approval=approval, at=now)]
    one = Given(standing, [(text, text)], "revoked", False, uses)
    return render_to_string("approvals/_standing_card.html", {"one": one, "uses": uses, "is_whole": True})


def _together(text: str) -> str:
    """Return the page for deciding two requests that differ in one argument."""
    exact = json.dumps(text, ensure_ascii=False)
    lines = [BulkLine(_approval(text), [ArgumentCell(text, value)]) for value in (exact, None)]
    group = Group(text, "low", text, lines, [(text, exact)], [text], ["approve", "reject"])
    return render_to_string("approvals/_together_form.html", {"group": group, "runs": [], "ticked": group.ids})


def _result(text: str) -> str:
    """Return what became of the items of a decision for many: recorded, too late, not there."""
    now, item = database_now(), Item("apr_1", "approve", 1, "0" * 64)
    late = Result(
        item, 409, str(AlreadyClosed(RequestClosing("decided", text, now, "reject"))), approval=_approval(text)
    )
    done = Result(item, 200, "Approved", approval=_approval(text))
    gone = Result(replace(item, approval_id=text), 404, text)
    given = {"results": [done, late, gone], "done": [done], "refused": [late, gone], "note": "", "key": "k"}
    frame = {"name": text, "roles": [], "notices": []}
    context = {"skeleton": "console/plain.html", "verdict": "approve", "again": [late], "cut_off": []}
    return render_to_string("approvals/together_result.html", given | context | {"user_frame": frame})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("part", "times", "as_json"),
    [(_team_part, 18, 1), (_standing_card, 9, 0), (_together, 16, 2), (_result, 5, 0)],
    ids=["the team's part", "a standing approval", "deciding together", "what became of each"],
)
def test_a_part_shows_the_text_in_every_place(part: object, times: int, as_json: int) -> None:
    assert callable(part)
    harmless = set().union(*(read_with_fields(part(text)).elements for text in HARMLESS))
    assert read_with_fields(part("a word")).text.count("a word") == times
    faults = []
    for hostile in CORPUS:
        page = read_with_fields(part(hostile.text))
        faults += [f"an element {one}" for one in page.elements - harmless]
        faults += hidden_from_readers(hostile, page)
        is_same = json.dumps(hostile.text, ensure_ascii=False) == f'"{hostile.text}"'
        faults += not_shown(hostile, page.text, times if is_same else times - as_json)
        faults += not_shown_as_json(hostile, page.text)
    assert faults == []
