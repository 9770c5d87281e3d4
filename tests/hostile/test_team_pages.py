"""Every text of the corpus on the pages of the team: comments, standing approvals, windows, views, the lane."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.models import Approval, Comment, Delegation, SavedView, StandingApproval
from approvals.services import Answer
from console.clock import database_now

from .conftest import Elements, Open, ReadPage, hidden, not_shown
from .corpus import CORPUS

#: in one line and in many: a page may fold either, with elements of its own
HARMLESS = ["plain", "x" * 30_000, "\n".join("line" for _ in range(400)), "12", "a\nb", "a" * 90]
SHARED = [reverse(f"approvals:{name}") for name in ("standing", "delegations", "views", "reviewers", "lane", "inbox")]
INBOX = reverse("approvals:inbox")
TOGETHER = 8  # texts on one page


def _write(alice: User, bob: User, open_hostile: Open, text: str) -> list[str]:
    """Write the text wherever people and agents can; return the addresses of the pages that are only about it."""
    kept, now = text.replace("\x00", ""), database_now()
    one, other = (open_hostile(text, risk="low", arguments={"v": text, "n": n}) for n in (1, 2))
    Comment.objects.create(approval=one, by=bob, text=kept[:4000])
    SavedView.objects.get_or_create(owner=alice, name=kept[:60], query="?tool=x")
    window = {"starts_at": now, "ends_at": now + timedelta(days=1)}
    Delegation.objects.create(principal=bob, delegate=alice, made_by=bob, reason=kept[:300], **window)
    standing = StandingApproval.objects.create(
        agent=one.agent,
        tool=one.tool,
        conditions=[{"path": "v", "is": kept}, {"path": "n", "is": 1}],
        reason=kept[:500],
        made_from=one,
        made_by=alice,
        expires_at=now + timedelta(days=1),
        uses_at_most=3,
    )
    late = open_hostile(text, arguments={"n": 3})
    answer = Answer("reject", late.version, late.digest, kept.strip()[:4000] or "no")
    services.decide(approval_id=late.pk, reviewer=alice, given=answer, channel="page")
    Approval.objects.filter(pk=late.pk).update(expected_by=now - timedelta(hours=1))
    return [
        reverse("approvals:standing_one", args=[standing.pk]),
        reverse("approvals:team", args=[one.pk]),
        reverse("approvals:review") + f"?id={one.pk}&id={other.pk}",
    ]


def _read(reader: Client, address: str) -> ReadPage:
    response = reader.get(address)
    assert response.status_code == 200, (address, response.status_code)
    # What somebody is to change stands in its field as it is.
    return ReadPage(re.sub(r"(<textarea[^>]*>)[^<]*", r"\1", response.content.decode()))


def _kind(address: str) -> str:
    return address.partition("?")[0].replace("apr_", "").split("/")[-1 if "?" in address else 1]


@pytest.mark.django_db
def test_no_page_of_the_team_hides_a_character_or_makes_an_element(
    reader: Client, alice: User, bob: User, open_hostile: Open
) -> None:
    harmless: dict[str, Elements] = {}
    for texts in ([one] for one in HARMLESS):
        with transaction.atomic():
            for address in [*_write(alice, bob, open_hostile, texts[0]), *SHARED]:
                harmless.setdefault(_kind(address), set()).update(_read(reader, address).elements)
            transaction.set_rollback(True)
    faults = []
    for start in range(0, len(CORPUS), TOGETHER):
        bundle = CORPUS[start : start + TOGETHER]
        with transaction.atomic():
            own = [(hostile, _write(alice, bob, open_hostile, hostile.text)) for hostile in bundle]
            seen = [(address, _read(reader, address), [hostile]) for hostile, pages in own for address in pages]
            seen += [(address, _read(reader, address), bundle) for address in SHARED]
            transaction.set_rollback(True)
        for address, page, shown in seen:
            found = [f"an element {one}" for one in page.elements - harmless[_kind(address)]]
            for hostile in shown:
                found += hidden(hostile, page.text)
                found += not_shown(hostile, page.text) if len(hostile.text) <= 60 and address != INBOX else []
            faults += [f"{_kind(address)}: {fault}" for fault in found]
    assert faults == []
