"""The inbox as a page and as a fragment: tabs, filters in the address, repeats, paging, selecting."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals import services
from approvals.models import Approval, SavedView
from approvals.pages.inbox.asked import InboxWishes, asked_of
from console.clock import database_now
from tests.page_client import signed_in, text

from .conftest import answer

Open = Callable[..., Approval]
INBOX = reverse("approvals:inbox")
BY_SCRIPT = {"HX-Request": "true"}


def rows_of(shown: str) -> list[str]:
    return re.findall(r'data-row="([^"]+)"', shown)


def different(open_one: Open, count: int, **fields: Any) -> list[Approval]:
    return [open_one(arguments={"number": number, **fields.pop("more", {})}, **fields) for number in range(count)]


def test_the_tabs_of_the_inbox(alice: User, open_one: Open) -> None:
    waiting = open_one(summary="Refund of the lamp", arguments={"thing": "lamp"})
    decided = open_one(summary="Refund of the chair", arguments={"thing": "chair"})
    services.decide(
        approval_id=decided.pk, reviewer=alice, given=answer(decided), circumstances=services.Circumstances("page")
    )
    client = signed_in(alice)
    assert "lamp" in text(client.get(INBOX)) and "chair" not in text(client.get(INBOX))
    assert "chair" in text(client.get(INBOX, {"status": "decided"}))
    everything = text(client.get(INBOX, {"status": "all"}, headers=BY_SCRIPT))
    assert "lamp" in everything and "chair" in everything
    assert waiting.pk in text(client.get(INBOX, {"search": waiting.pk}))
    assert "tab-withdrawn" not in everything, "a tab that would be empty is not there"
    services.withdraw(run_id="run-1", reason="over", actor="worker")
    assert "tab-withdrawn" in text(client.get(INBOX))
    assert waiting.pk in text(client.get(INBOX, {"status": "withdrawn"}))


def test_a_search_without_a_hit_keeps_its_words_and_offers_every_state(alice: User, open_one: Open) -> None:
    open_one()
    shown = text(signed_in(alice).get(INBOX, {"search": "sofa", "due": "4"}))
    assert "Nothing fits" in shown and 'value="sofa"' in shown
    assert "?status=all&amp;search=sofa" in shown


@pytest.mark.parametrize(
    "asked",
    [
        *({"limit": one} for one in ("x", "-1", "²", "9" * 5000)),
        *({"cursor": one} for one in ("???", "W10", "bGFzdA", "null", "x" * 9000)),
        {"status": "no"},
        {"search": "\0"},
        {"due": "1e9"},
        {"risk": "none"},
        {"order": "id; DROP"},
        {"mine": "maybe"},
    ],
)
def test_a_strange_address_shows_the_usual_list(alice: User, open_one: Open, asked: dict[str, str]) -> None:
    open_one(summary="Refund of the lamp")
    response = signed_in(alice).get(INBOX, asked)
    assert response.status_code == 200
    assert "lamp" in text(response)


def test_an_address_reads_back_what_it_was_made_from() -> None:
    asked = InboxWishes("decided", "a b", "support", "pay", "high", True, True, 4, "apr_1", "", "c", 100)
    assert InboxWishes().query() == ""
    from django.http import QueryDict

    assert asked_of(QueryDict(asked.query().removeprefix("?"))) == asked


def test_every_filter_of_the_address_narrows_and_has_a_chip(alice: User, open_one: Open) -> None:
    refund = open_one(arguments={"n": 1})
    email = open_one(tool="send_email", risk="medium", agent="letters", arguments={"n": 2}, requested_by=alice)
    Approval.objects.filter(pk=email.pk).update(claimed_by=alice, claimed_at=database_now())
    client = signed_in(alice)
    for asked, expected, words in (
        ({"tool": "send_email"}, email, "send_email"),
        ({"agent": "letters"}, email, "letters"),
        ({"risk": "medium"}, email, "Medium risk"),
        ({"claimed": "1"}, email, "Claimed by me"),
        ({"mine": "1"}, refund, "I may decide"),
        ({"search": refund.pk}, refund, refund.pk),
        ({"same": email.pk}, email, f"Same as {email.pk}"),
    ):
        shown = text(client.get(INBOX, asked, headers=BY_SCRIPT))
        assert rows_of(shown) == [expected.pk], asked
        chip = re.search(r'<a class="chip" id="chip-\w+" href="([^"]*)"><span class="cut">(.*?)</span>', shown)
        assert chip and words in chip[2] and chip[1] == INBOX
    both = text(client.get(INBOX, {"tool": "send_email", "mine": "1"}, headers=BY_SCRIPT))
    assert rows_of(both) == [] and both.count('class="chip"') == 2


def test_the_filter_form_comes_to_an_address_that_says_only_what_is_unusual(alice: User, open_one: Open) -> None:
    open_one()
    sent = {
        "filter": "1",
        "search": " lamp ",
        "tool": "",
        "agent": "",
        "risk": "",
        "due": "",
        "order": "",
        "limit": "50",
    }
    client = signed_in(alice)
    plain = client.get(INBOX, sent)
    assert (plain.status_code, plain["Location"]) == (302, f"{INBOX}?search=lamp")
    scripted = client.get(INBOX, sent, headers=BY_SCRIPT)
    assert scripted.status_code == 200
    assert scripted["HX-Replace-Url"] == f"{INBOX}?search=lamp"
    assert "HX-Replace-Url" not in client.get(INBOX, {"search": "lamp"}, headers=BY_SCRIPT)


def test_names_of_tools_and_agents_are_inert_wherever_they_show(alice: User, open_one: Open) -> None:
    open_one(tool='<b onclick="x">\u202e', agent="a\u200b<i>")
    shown = text(signed_in(alice).get(INBOX, {"tool": '<b onclick="x">\u202e', "agent": "a\u200b<i>"}))
    assert "<b onclick" not in shown and "<i>" not in shown
    assert "\u202e" not in shown.replace('value="&lt;b onclick=&quot;x&quot;&gt;\u202e"', "")


def test_pages_are_reached_from_both_ends(alice: User, open_one: Open) -> None:
    opened = {approval.pk for approval in different(open_one, 103)}
    client, found, address = signed_in(alice), [], INBOX
    while address:
        shown = text(client.get(address, headers=BY_SCRIPT))
        found += rows_of(shown)
        following = re.search(r'id="page-next" href="([^"]+)"', shown)
        address = following[1].replace("&amp;", "&") if following else ""
    assert len(found) == 103 and set(found) == opened
    last = text(client.get(INBOX, {"cursor": "last"}, headers=BY_SCRIPT))
    assert rows_of(last) == found[-50:]
    assert 'id="page-first"' in last and 'id="page-previous"' in last and 'id="page-last"' not in last
    assert rows_of(text(client.get(INBOX, {"limit": 200}, headers=BY_SCRIPT))) == found


def test_a_page_whose_rows_are_gone_leads_back(alice: User, open_one: Open) -> None:
    approvals = different(open_one, 51)
    client = signed_in(alice)
    shown = text(client.get(INBOX, headers=BY_SCRIPT))
    following = re.search(r'id="page-next" href="([^"]+)"', shown)
    assert following
    Approval.objects.filter(pk__in=[one.pk for one in approvals if one.pk not in rows_of(shown)]).update(
        status="expired"
    )
    beyond = text(client.get(following[1], headers=BY_SCRIPT))
    assert "Nothing on this page any more" in beyond and f'href="{INBOX}"' in beyond


def test_repeats_are_one_row_that_opens_the_group(alice: User, open_one: Open) -> None:
    same = [open_one(risk="low") for _ in range(4)]
    other = open_one(risk="low", arguments={"n": 1})
    client = signed_in(alice)
    shown = text(client.get(INBOX, headers=BY_SCRIPT))
    assert len(rows_of(shown)) == 2 and "Asked 4 times" in shown
    group = re.search(r'href="([^"]*\?same=[^"]+)">Show each', shown)
    assert group
    each = rows_of(text(client.get(group[1], headers=BY_SCRIPT)))
    assert sorted(each) == sorted(one.pk for one in same) and other.pk not in each


def test_only_what_can_be_decided_together_can_be_selected(alice: User, open_one: Open) -> None:
    high, low = open_one(risk="high", arguments={"n": 1}), open_one(risk="low", arguments={"n": 2})
    asked = open_one(risk="low", kind="outcome", arguments={"n": 3})  # its rule keeps it out of bulk
    shown = text(signed_in(alice).get(INBOX, headers=BY_SCRIPT))
    assert re.findall(r'name="id" value="([^"]+)" form="pick-form"', shown) == [low.pk]
    assert {high.pk, asked.pk} < set(rows_of(shown))


def test_who_holds_a_request_is_shown_in_its_row(alice: User, bob: User, open_one: Open) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(claimed_by=bob, claimed_at=database_now())
    assert "bob" in text(signed_in(alice).get(INBOX, headers=BY_SCRIPT))


def test_the_inbox_costs_the_same_for_five_rows_and_for_fifty(alice: User, open_one: Open) -> None:
    client = signed_in(alice)
    SavedView.objects.create(owner=alice, name="one", query="mine=1")
    lists: tuple[dict[str, str], ...] = (
        {},
        {"status": "decided"},
        {"status": "all"},
        {"mine": "1", "search": "refund"},
    )
    numbers = iter(range(1000))

    def costs(headers: dict[str, str]) -> list[int]:
        """Return how many queries each list takes."""
        counts = []
        for asked in lists:
            with CaptureQueriesContext(connection) as captured:
                assert client.get(INBOX, asked, headers=headers).status_code == 200
            counts.append(len(captured))
        return counts

    def add(count: int) -> None:
        for _ in range(count):
            waiting = open_one(arguments={"n": next(numbers)})
            Approval.objects.filter(pk=waiting.pk).update(claimed_by=alice, claimed_at=database_now())
            open_one(arguments={"n": 0})
            decided = open_one(arguments={"n": next(numbers)})
            services.decide(
                approval_id=decided.pk,
                reviewer=alice,
                given=answer(decided),
                circumstances=services.Circumstances("page"),
            )

    add(5)
    whole, by_script = costs({}), costs(BY_SCRIPT)
    add(45)
    assert costs({}) == whole
    assert costs(BY_SCRIPT) == by_script
    assert max(by_script) <= 27, by_script


def downloaded(client: Client, address: str) -> str:
    response: Any = client.get(address)  # a stream
    return b"".join(response.streaming_content).decode()


def test_the_foot_exports_exactly_the_list_that_is_shown(alice: User, open_one: Open) -> None:
    wanted = open_one(tool="send_email", risk="low", arguments={"n": 1}, agent="clerk")
    others = [open_one(), open_one(tool="send_email", risk="medium"), open_one(tool="send_email", risk="low")]
    Approval.objects.filter(pk=wanted.pk).update(claimed_by=alice, claimed_at=database_now())
    client = Client()
    client.force_login(alice)
    asked = {"status": "all", "tool": "send_email", "agent": "clerk", "risk": "low", "mine": "1", "claimed": "1"}
    asked |= {"due": "72", "same": wanted.pk, "search": "clerk", "order": "opened_at"}
    page = client.get("/inbox/", asked).content.decode()
    link = re.search(r'id="inbox-export" href="([^"]+)"', page)
    assert link is not None
    told = downloaded(client, link[1].replace("&amp;", "&"))
    assert wanted.pk in told and not any(other.pk in told for other in others)
    everything = downloaded(client, "/inbox/export.csv")
    assert all(other.pk in everything for other in others)


def test_a_row_shows_how_the_agents_words_begin(alice: User, open_one: Open) -> None:
    open_one(agent_words=f"{'word ' * 20}\u202e{'word ' * 2000}the end")
    shown = text(signed_in(alice).get(INBOX, headers=BY_SCRIPT))
    begins = re.findall(r'<span class="sub">(.*?)</span>', shown)
    assert len(begins) == 1 and len(begins[0]) <= 160 and begins[0].endswith("…")
    assert "⟨U+202E⟩" in begins[0] and "the end" not in shown
