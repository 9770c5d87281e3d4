"""The rows of the inbox: their order, their pages from both ends, what narrows them, and repeats shown once."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from approvals import services
from approvals.models import Approval
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.reading.listing import Filters, approvals_page, counts_of_same, pending_values
from approvals.services.claims import CLAIM_LASTS
from console.clock import database_now
from console.lists.keyset import LAST

from .conftest import answer

Open = Callable[..., Approval]
BY_RISK = Filters(order="risk")


def ids(user: User, filters: Filters, **how: Any) -> list[str]:
    return [row.pk for row in approvals_page(user, filters, limit=200, **how).rows]


def waits(approval: Approval, *, hours: float, opened: float = 0) -> Approval:
    """Move an approval in time, as if it had been opened then."""
    now = database_now()
    Approval.objects.filter(pk=approval.pk).update(
        due_at=now + timedelta(hours=hours), opened_at=now - timedelta(hours=opened)
    )
    return approval


def test_high_risk_comes_first_then_the_deadline_then_the_age(alice: User, open_one: Open) -> None:
    low = waits(open_one(risk="low"), hours=1)
    late = waits(open_one(risk="high"), hours=9)
    soon = waits(open_one(risk="high"), hours=2)
    medium = waits(open_one(risk="medium"), hours=1)
    now = database_now()
    old, young = open_one(risk="medium"), open_one(risk="medium")
    Approval.objects.filter(pk__in=(old.pk, young.pk)).update(due_at=now + timedelta(hours=30))
    Approval.objects.filter(pk=old.pk).update(opened_at=now - timedelta(hours=5))
    assert ids(alice, BY_RISK) == [soon.pk, late.pk, medium.pk, old.pk, young.pk, low.pk]
    assert [ids(alice, Filters())[place] for place in (2, 3)] == [soon.pk, late.pk]
    assert ids(alice, Filters(order="opened_at"))[-1] == old.pk


@pytest.mark.parametrize("order", ["risk", "due_at", "opened_at"])
@pytest.mark.parametrize("status", ["pending", ""])
def test_pages_from_both_ends_hold_every_row_once(order: str, status: str, alice: User, open_one: Open) -> None:
    chance = random.Random(order + status)
    for _ in range(23):
        # Few different values: ties are the cases in which a keyset loses or repeats rows.
        waits(open_one(risk=chance.choice(["low", "high"])), hours=chance.choice([1, 2]), opened=chance.choice([3, 4]))
    whole = ids(alice, filters := Filters(order=order, status=status))
    assert len(set(whole)) == 23
    page, forwards = approvals_page(alice, filters, limit=5), []
    assert page.previous_cursor is None
    while True:
        forwards += [row.pk for row in page.rows]
        if page.next_cursor is None:
            break
        page = approvals_page(alice, filters, limit=5, cursor=page.next_cursor)
    assert forwards == whole
    backwards: list[str] = []
    page = approvals_page(alice, filters, limit=5, cursor=LAST)
    assert page.next_cursor is None
    while True:
        backwards = [row.pk for row in page.rows] + backwards
        if page.previous_cursor is None or len(backwards) >= 20:
            break
        page = approvals_page(alice, filters, limit=5, cursor=page.previous_cursor)
    assert backwards == whole[-20:]
    page = approvals_page(alice, filters, limit=5, cursor=page.previous_cursor or "")
    assert [row.pk for row in page.rows] == whole[:5], "fewer than a page before: the first page, whole"
    assert page.previous_cursor is None and page.next_cursor


def test_a_cursor_of_another_order_begins_at_the_beginning(alice: User, open_one: Open) -> None:
    for _ in range(4):
        open_one()
    page = approvals_page(alice, BY_RISK, limit=2)
    other = approvals_page(alice, Filters(order="due_at"), limit=2, cursor=page.next_cursor or "")
    assert other.previous_cursor is None


def test_a_page_costs_one_query_wherever_it_lies(alice: User, open_one: Open) -> None:
    for _ in range(9):
        open_one()
    middle = approvals_page(alice, BY_RISK, limit=3).next_cursor or ""
    for cursor in ("", middle, LAST):
        with CaptureQueriesContext(connection) as captured:
            approvals_page(alice, BY_RISK, limit=3, cursor=cursor, repeats_once=True)
        assert len(captured) == 1


@pytest.mark.parametrize(
    ("words", "is_found"),
    [
        ("mara", True),
        ("MARA lindq", True),
        ("lindqvist mara", True),
        ("indqvist", False),  # the middle of a word is no word
        ("mara jonas", False),
        ("A-8801", True),
        ("8801", True),
        ("A-88", True),
        ("8801-A", False),
        ("89.40", True),
        ("89.4", True),
        ("40.89", False),
        ("issue_refund", True),
        ("refund", True),
        ("support", True),
        ("run-77", True),
        ("zweite", True),  # after an escaped line break
        ("café", True),
        ("CAFÉ", True),
        ("order_id", False),  # names of arguments are in every request, so they tell nothing
        ("-", False),
        ("mara -", True),
        ("'; DROP TABLE", False),
        ("a & b | !c <-> :*", False),
        ("\\", False),
        ("", True),
    ],
)
def test_the_search_finds_words_and_their_beginnings(words: str, is_found: bool, alice: User, open_one: Open) -> None:
    arguments = {
        "order_id": "A-8801",
        "lines": [{"amount": "89.40", "who": "Mara Lindqvist"}],
        "note": 'Erste Zeile\nzweite "Zeile" im Café: fertig',
    }
    open_one(arguments=arguments, run_id="run-77", summary="What the tool says")
    assert bool(ids(alice, Filters(search=words))) is is_found


def test_an_id_is_found_whole_and_by_its_beginning(alice: User, open_one: Open) -> None:
    one, _ = open_one(), open_one()
    assert ids(alice, Filters(search=one.pk)) == [one.pk]
    assert one.pk in ids(alice, Filters(search=one.pk[:12]))


@pytest.mark.parametrize(
    ("words", "is_found"),
    [
        ("order-771/refund", True),  # the external id and its parts
        ("ORDER-771", True),
        ("771/ref", True),
        ("b7c2f0de", True),
        ("billing_job:b7c2", True),
        ("772/refund", False),
        ("mara.l@example.org", True),  # an address and its parts
        ("mara.l@", True),
        ("@example.org", True),
        ("mara@example.org", False),
        ("ORD20240042", True),  # an order number and its parts
        ("ord2024", True),
        ("20240042", True),
        ("2024", True),
        ("40042", False),
        ("well-known", True),
        ("known_issue", True),
        ("well_known", True),  # which sign joins two words is nobody's memory
        ("Müller", True),  # one letter, however it was typed
        ("MÜLLER", True),
        ("mu\u0308ller", True),
        ("muller", True),
        ("STRASSE", True),
        ("straße", True),
        ("łódź", True),
        ("Lodz", True),
        ("unterlagen", True),  # written with a soft hyphen
        ("ёлка", True),
        ("ЕЛКА", True),
        ("返金", True),  # inside a sentence without spaces
        ("返金をお願い", True),
        ("お願いします", True),
        ("金", True),
        ("す", True),  # its last letter
        ("壊れた ランプ", True),
        ("ﾗﾝﾌﾟ", True),  # half width
        ("\uff21\uff22\uff11\uff12", True),  # full width
        ("注文\uff08AB12\uff09", True),
        ("注文AB", True),
        ("AB12の返金", True),
        ("金返", False),
        ("返願", False),
        ("ます返", False),
        ("退款", True),
        ("请退款给", True),
        ("款退", False),
        ("คืนเงิน", True),
        ("เงิน", True),
        ("ลูกค้า", True),
        ("เงินคืน", False),
        ("환불", True),
        ("हिन्दी", True),
    ],
)
def test_the_search_finds_parts_of_ids_and_words_of_every_script(
    words: str, is_found: bool, alice: User, open_one: Open
) -> None:
    arguments = {
        "to": "Mara.L@Example.org",
        "number": "ORD20240042",
        "tags": ["well-known_issue", "Müller", "Königstraße", "Lange Straße", "Łódź", "Unter\u00adlagen", "Ёлка"],
        "japanese": "壊れたランプの注文AB12の返金をお願いします",
        "chinese": "客户要求请退款给他",
        "thai": "กรุณาคืนเงินให้ลูกค้า",
        "korean": "전액환불을 요청",
        "hindi": "यह हिन्दी है",
    }
    one = open_one(arguments=arguments, external_id="billing_job:b7c2f0de-order-771/refund")
    open_one(arguments={"note": "別の話 and nothing else"}, summary="Another")
    assert ids(alice, Filters(search=words)) == ([one.pk] if is_found else [])


def test_every_word_inside_a_long_text_without_spaces_is_found(alice: User, open_one: Open) -> None:
    chance = random.Random(8)
    text = "".join(chr(chance.randint(0x4E00, 0x9FA5)) for _ in range(15_000))
    one, _ = open_one(arguments={"text": text}), open_one(arguments={"text": text[::-1]})
    for _ in range(20):
        at, length = chance.randint(0, 14_900), chance.randint(3, 60)
        assert ids(alice, Filters(search=text[at : at + length])) == [one.pk]


def test_the_search_follows_an_edit(alice: User, open_one: Open) -> None:
    approval = open_one(arguments={"city": "Lyon"})
    canonical = canonicalise("issue_refund", {"city": "Malmö"})
    Approval.objects.filter(pk=approval.pk).update(canonical=canonical, digest=digest_of(canonical))
    assert ids(alice, Filters(search="malmö")) == [approval.pk]
    assert ids(alice, Filters(search="lyon")) == []


def test_long_arguments_and_strange_ones_can_be_opened_and_searched(alice: User, open_one: Open) -> None:
    for number, value in enumerate(("x" * 9000, "wort " * 40_000, '\\u0041 \\\\ " : {', "日本語", "\u202eabc")):
        open_one(arguments={"value": value, "n": number})
    assert len(ids(alice, Filters())) == 5
    assert len(ids(alice, Filters(search="wort"))) == 1
    assert len(ids(alice, Filters(search="日本"))) == 1


def test_filters_hold_together(alice: User, bob: User, open_one: Open) -> None:
    refund = open_one(risk="high")
    email = open_one(tool="send_email", risk="medium", agent="letters")
    waits(email, hours=2)
    Approval.objects.filter(pk=email.pk).update(claimed_by=alice, claimed_at=database_now())
    for narrowed in (
        Filters(tool="send_email"),
        Filters(agent="letters"),
        Filters(risk="medium"),
        Filters(claimed=True),
        Filters(due_hours=4),
        Filters(tool="send_email", agent="letters", risk="medium", claimed=True, due_hours=4, search="letters"),
    ):
        assert ids(alice, narrowed) == [email.pk], narrowed
    assert ids(alice, Filters(tool="send_email", risk="high")) == []
    assert ids(alice, Filters(risk="none")) == []
    assert ids(bob, Filters(claimed=True)) == []
    assert set(ids(alice, Filters(due_hours=90))) == {refund.pk, email.pk}


def test_a_lapsed_claim_is_nobodys(alice: User, open_one: Open) -> None:
    approval = open_one()
    lapsed = database_now() - CLAIM_LASTS
    Approval.objects.filter(pk=approval.pk).update(claimed_by=alice, claimed_at=lapsed)
    assert ids(alice, Filters(claimed=True)) == []


def test_a_claim_is_mine_by_whichever_account_i_come(alice: User, bob: User, open_one: Open) -> None:
    User.objects.filter(pk__in=(alice.pk, bob.pk)).update(email="same@example.org")
    alice.refresh_from_db()
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(claimed_by=bob, claimed_at=database_now())
    assert ids(alice, Filters(claimed=True)) == [approval.pk]


def test_identical_requests_are_one_row_and_none_is_lost(alice: User, open_one: Open) -> None:
    first, *repeats = (waits(open_one(arguments={"a": 1}), hours=hour) for hour in (5, 6, 7, 8))
    other = waits(open_one(arguments={"a": 2}), hours=9)
    elsewhere = waits(open_one(arguments={"a": 1}, agent="another"), hours=10)
    page = approvals_page(alice, BY_RISK, repeats_once=True)
    assert [row.pk for row in page.rows] == [first.pk, other.pk, elsewhere.pk]
    assert counts_of_same(page.rows) == {first.pk: 4, other.pk: 1, elsewhere.pk: 1}
    group = ids(alice, Filters(same_as=repeats[1].pk), repeats_once=True)
    assert set(group) == {first.pk, *(one.pk for one in repeats)}
    assert ids(alice, Filters(same_as="apr_none")) == []


def test_a_repeat_shows_where_only_it_fits_the_filters(alice: User, open_one: Open) -> None:
    waits(open_one(arguments={"a": 1}, requested_by=alice), hours=1)
    mine = waits(open_one(arguments={"a": 1}), hours=2)
    assert ids(alice, Filters(order="risk", mine=True), repeats_once=True) == [mine.pk]
    assert len(ids(alice, BY_RISK, repeats_once=True)) == 1


@pytest.mark.parametrize("order", ["risk", "due_at", "opened_at"])
def test_repeats_are_shown_once_across_pages_from_both_ends(order: str, alice: User, open_one: Open) -> None:
    chance = random.Random(order)
    for number in range(30):
        waits(open_one(arguments={"a": number % 11}), hours=chance.choice([1, 2, 3]), opened=chance.choice([3, 4]))
    filters = Filters(order=order)
    found, cursor = [], ""
    while True:
        page = approvals_page(alice, filters, limit=4, cursor=cursor, repeats_once=True)
        found += page.rows
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert len({row.digest for row in found}) == len(found) == 11
    back = approvals_page(alice, filters, limit=4, cursor=LAST, repeats_once=True)
    assert [row.pk for row in back.rows] == [row.pk for row in found[-4:]]


def test_decided_repeats_are_not_put_together(alice: User, open_one: Open) -> None:
    for _ in range(3):
        approval = open_one(arguments={"a": 1})
        services.decide(
            approval_id=approval.pk,
            reviewer=alice,
            given=answer(approval),
            circumstances=services.Circumstances("page"),
        )
    assert len(ids(alice, Filters(status="decided"), repeats_once=True)) == 3


def test_the_choices_are_those_of_pending_requests(alice: User, open_one: Open) -> None:
    assert pending_values("tool") == []
    for tool in ("b", "a", "a", "c"):
        open_one(tool=tool)
    done = open_one(tool="z")
    services.decide(
        approval_id=done.pk, reviewer=alice, given=answer(done), circumstances=services.Circumstances("page")
    )
    assert pending_values("tool") == ["a", "b", "c"]
    assert pending_values("agent") == ["support"]
