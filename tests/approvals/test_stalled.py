"""What took effect, what should have by now, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client

from approvals import services
from approvals.errors import InvalidChange, NothingToRedrive, NotTheirs
from approvals.models import Approval, AuditEvent, ReceiptStep
from approvals.reading import stalled
from approvals.services import note_effect, note_receipt
from approvals.services.receipts import set_aside
from console.clock import database_now
from console.models import OutboxEntry
from tests.approvals.conftest import answer

Opener = Callable[..., Approval]


def decided(open_one: Opener, by: User, verdict: str = "approve", **changes: Any) -> Approval:
    approval = open_one(**changes)
    more: dict[str, Any] = {"reject": {"note": "no"}, "respond": {"answer": "ask again"}}.get(verdict, {})
    services.decide(approval_id=approval.pk, reviewer=by, given=answer(approval, verdict, **more))
    approval.refresh_from_db()
    return approval


def expected_in(approval: Approval) -> timedelta | None:
    """Return how long after its newest step the next one is late."""
    approval.refresh_from_db()
    newest = approval.receipt.latest("at", "id").at
    return approval.expected_by - newest if approval.expected_by else None


def let_pass(seconds: int) -> None:
    """Let time pass for everything that is expected."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE approvals_approval SET expected_by = expected_by - make_interval(secs => %s)", [seconds])


def standing(user: User) -> list[str]:
    return [item.approval.pk for item in stalled.lane_page(user).items]


def test_each_step_gives_the_next_one_its_time(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    assert expected_in(approval) == timedelta(seconds=30)
    note_receipt(approval_ids=[approval.pk], step="signalled")
    assert expected_in(approval) == timedelta(seconds=60)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    assert expected_in(approval) == timedelta(seconds=60)
    note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=45))
    assert expected_in(approval) == timedelta(seconds=45 + 60)
    note_effect(approval_id=approval.pk, event="done")
    assert expected_in(approval) is None
    assert approval.took_effect_at == approval.receipt.get(step="effect_finished").at


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("reject", {}),
        ("respond", {}),
        ("approve", {"kind": "outcome"}),
        ("reject", {"kind": "outcome"}),
        ("approve", {"source": "program"}),
    ],
)
def test_an_answer_without_an_effect_has_taken_effect_once_it_is_heard(
    verdict: str, changes: dict[str, Any], open_one: Opener, alice: User
) -> None:
    approval = decided(open_one, alice, verdict, **changes)
    note_receipt(approval_ids=[approval.pk], step="signalled")
    approval.refresh_from_db()
    assert approval.took_effect_at is None
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at == approval.receipt.get(step="resumed").at
    assert approval.expected_by is None


def test_an_approval_to_act_has_not_taken_effect_when_the_run_resumes(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at is None and approval.expected_by is not None


def test_that_nobody_decided_takes_effect_when_the_run_hears_it(open_one: Opener) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(status="expired")
    note_receipt(approval_ids=[approval.pk], step="resumed")
    approval.refresh_from_db()
    assert approval.took_effect_at is not None and approval.expected_by is None


@pytest.mark.parametrize("event", ["failed", "refused", "unknown"])
def test_what_ends_otherwise_stands_in_the_lane_at_once(event: str, open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed")
    if event != "refused":
        note_effect(approval_id=approval.pk, event="started", within=timedelta(seconds=30))
    assert standing(alice) == []
    note_effect(approval_id=approval.pk, event=event, detail="The shop is closed.")
    approval.refresh_from_db()
    assert approval.took_effect_at is None
    assert standing(alice) == [approval.pk]


def test_what_is_late_already_does_not_become_newer_when_its_end_was_not_seen(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_effect(approval_id=approval.pk, event="started")
    let_pass(1000)
    approval.refresh_from_db()
    late_since = approval.expected_by
    note_effect(approval_id=approval.pk, event="unknown")
    approval.refresh_from_db()
    assert approval.expected_by == late_since


def test_an_unknown_effect_that_happened_after_all_leaves_the_lane(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="unknown")
    assert standing(alice) == [approval.pk]
    note_effect(approval_id=approval.pk, event="done")
    assert standing(alice) == []


def test_a_step_that_comes_again_or_late_moves_nothing(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    note_receipt(approval_ids=[approval.pk], step="resumed", detail="turn 2")
    let_pass(1000)
    approval.refresh_from_db()
    before = approval.expected_by
    note_receipt(approval_ids=[approval.pk], step="signalled")  # the relay stamps after the run has resumed
    note_receipt(approval_ids=[approval.pk], step="resumed", detail="turn 2, tried again")
    approval.refresh_from_db()
    assert approval.expected_by == before
    assert approval.receipt.get(step="resumed").detail == "turn 2"
    assert [step.step for step in approval.receipt.order_by("id")] == ["recorded", "resumed", "signalled"]


def test_a_test_of_attention_is_not_expected_to_do_anything(open_one: Opener, alice: User) -> None:
    approval = open_one()
    Approval.objects.filter(pk=approval.pk).update(is_seeded=True)
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    let_pass(1000)
    assert standing(alice) == []


def test_asking_for_an_effect_of_a_pending_request_writes_nothing_on_its_receipt(open_one: Opener) -> None:
    approval = open_one()
    note_effect(approval_id=approval.pk, event="refused", detail="The approval is pending, not decided.")
    assert not approval.receipt.exists()
    assert AuditEvent.objects.filter(kind="effect.refused", subject=approval.pk).count() == 1


@pytest.mark.parametrize("apart", [timedelta(minutes=1), timedelta(0)])
def test_the_lane_shows_what_came_last_first_and_pages_by_key(apart: timedelta, open_one: Opener, alice: User) -> None:
    made = sorted((decided(open_one, alice) for _ in range(5)), key=lambda one: one.pk, reverse=True)
    for place, approval in enumerate(made):
        moment = approval.opened_at - timedelta(minutes=1) - place * apart
        Approval.objects.filter(pk=approval.pk).update(expected_by=moment)
    first = stalled.lane_page(alice, limit=2)
    second = stalled.lane_page(alice, limit=2, cursor=first.next_cursor or "")
    third = stalled.lane_page(alice, limit=2, cursor=second.next_cursor or "")
    pages = [[item.approval.pk for item in page.items] for page in (first, second, third)]
    ids = [approval.pk for approval in made]
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    assert third.next_cursor is None


def test_the_lane_costs_the_same_for_one_and_for_many(
    open_one: Opener, alice: User, django_assert_max_num_queries: Any
) -> None:
    decided(open_one, alice)
    let_pass(1000)
    with django_assert_max_num_queries(10) as few:
        stalled.lane_page(User.objects.get(pk=alice.pk))
    for _ in range(9):
        decided(open_one, alice)
    let_pass(1000)
    with django_assert_max_num_queries(10) as many:
        assert len(stalled.lane_page(User.objects.get(pk=alice.pk)).items) == 10
    assert len(few) == len(many)


def test_who_decided_is_told_of_their_own(open_one: Opener, alice: User, bob: User, eve: User) -> None:
    decided(open_one, alice)
    decided(open_one, bob)
    decided(open_one, bob)
    assert stalled.own_count(bob) == 0  # all on their way
    let_pass(1000)
    assert (stalled.own_count(alice), stalled.own_count(bob), stalled.own_count(eve)) == (1, 2, 0)
    assert (stalled.count_for(alice), stalled.count_for(eve)) == (3, 0)


def test_what_was_decided_in_somebodys_name_is_theirs_too(open_one: Opener, alice: User, ada: User) -> None:
    now = database_now()
    window: dict[str, Any] = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1), "reason": ""}
    services.delegate(principal=alice, to=ada, by=alice, **window)
    approval = decided(open_one, ada)
    assert approval.decisions.get().on_behalf_of == alice
    let_pass(1000)
    assert (stalled.own_count(alice), stalled.own_count(ada)) == (1, 1)
    set_aside(approval_id=approval.pk, by=alice, reason="Done by hand.")
    assert standing(alice) == []


def test_set_aside_takes_it_out_for_good_with_the_reason_on_the_record(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    let_pass(1000)
    set_aside(approval_id=approval.pk, by=alice, reason="The customer took the money back.")
    set_aside(approval_id=approval.pk, by=alice, reason="The second click.")
    assert standing(alice) == []
    step = approval.receipt.get(step="set_aside")
    assert step.detail == "alice: The customer took the money back."
    event = AuditEvent.objects.get(kind="approval.set_aside")
    assert (event.actor, event.subject, event.body) == (
        "alice",
        approval.pk,
        {"reason": "The customer took the money back."},
    )
    note_receipt(approval_ids=[approval.pk], step="resumed")
    let_pass(1000)
    assert standing(alice) == []
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="done")  # what happens is noted all the same
    approval.refresh_from_db()
    assert approval.took_effect_at is not None


@pytest.mark.parametrize("reason", ["", "   ", "x" * 401, "a\x00b"])
def test_set_aside_needs_a_reason_that_can_be_kept(reason: str, open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    let_pass(1000)
    with pytest.raises(InvalidChange) as refused:
        set_aside(approval_id=approval.pk, by=alice, reason=reason)
    assert refused.value.field == "reason"
    assert standing(alice) == [approval.pk]


def test_only_who_took_part_operators_and_admins_set_aside(
    open_one: Opener, alice: User, bob: User, olga: User, ada: User, eve: User
) -> None:
    for person, may in [(alice, True), (bob, False), (olga, True), (ada, True), (eve, False)]:
        approval = decided(open_one, alice)
        let_pass(1000)
        if may:
            set_aside(approval_id=approval.pk, by=person, reason="Done by hand.")
        else:
            with pytest.raises(NotTheirs):
                set_aside(approval_id=approval.pk, by=person, reason="Done by hand.")
    assert ReceiptStep.objects.filter(step="set_aside").count() == 3
    approval = decided(open_one, alice)
    let_pass(1000)
    alice.groups.clear()
    with pytest.raises(NotTheirs):  # who took part and may no longer see
        set_aside(approval_id=approval.pk, by=User.objects.get(pk=alice.pk), reason="Done by hand.")


def test_what_is_on_its_way_or_done_is_not_set_aside(open_one: Opener, alice: User) -> None:
    approval = decided(open_one, alice)
    with pytest.raises(NothingToRedrive, match="on its way"):
        set_aside(approval_id=approval.pk, by=alice, reason="Too slow.")
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="done")
    with pytest.raises(NothingToRedrive, match="taken effect"):
        set_aside(approval_id=approval.pk, by=alice, reason="Too slow.")


def test_pages_hear_when_something_lands_in_the_lane_and_when_it_leaves(
    open_one: Opener, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(stalled, "announce", lambda *topics: told.append(topics))
    approval = decided(open_one, alice)
    known = stalled.announce_changes(frozenset())
    assert (known, told) == (frozenset(), [])
    let_pass(1000)
    known = stalled.announce_changes(known)
    assert told == [("inbox", f"approval:{approval.pk}")]
    assert stalled.announce_changes(known) == known and len(told) == 1
    note_receipt(approval_ids=[approval.pk], step="resumed")
    assert stalled.announce_changes(known) == frozenset()
    assert told[1:] == [("inbox",)]


PAGE = "/inbox/did-not-take-effect/"


def stuck(open_one: Opener, by: User, **changes: Any) -> Approval:
    approval = decided(open_one, by, **changes)
    let_pass(1000)
    return approval


def act(client: Client, approval: Approval, action: str, **fields: str) -> Any:
    return client.post(f"/approvals/{approval.pk}/redrive", {"action": action} | fields)


def test_the_page_tells_each_decision_with_its_cause_and_what_can_be_done(
    open_one: Opener, client: Client, alice: User, bob: User
) -> None:
    approval = stuck(open_one, alice, summary="Refund \u202e04.98 EUR")
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert "no relay is alive" in page and "Tell the run now" in page and "Set aside" in page
    assert "\u202e" not in page and "U+202E" in page
    assert f'id="lane-{approval.pk}"' in page
    assert "1 decision of yours did not take effect" in page
    client.force_login(bob)
    page = client.get(PAGE).content.decode()
    assert "no relay is alive" in page and "Tell the run now" not in page
    assert "decision of yours" not in page


def test_the_inbox_has_the_lane_as_a_tab_whose_count_shows_only_when_there_is_one(
    open_one: Opener, client: Client, alice: User
) -> None:
    client.force_login(alice)
    assert 'class="alarm"' not in client.get("/inbox/").content.decode()
    assert "Everything decided has taken effect" in client.get(PAGE).content.decode()
    stuck(open_one, alice)
    page = client.get("/inbox/").content.decode()
    assert f'href="{PAGE}"' in page and '<span class="alarm">1</span>' in page


def test_the_page_costs_the_same_number_of_queries_for_one_and_for_many(
    open_one: Opener, client: Client, alice: User, django_assert_max_num_queries: Any
) -> None:
    client.force_login(alice)
    stuck(open_one, alice)
    with django_assert_max_num_queries(30) as few:
        client.get(PAGE)
    for _ in range(7):
        decided(open_one, alice)
    let_pass(1000)
    with django_assert_max_num_queries(30) as many:
        assert client.get(PAGE).content.count(b'class="stuck-item"') == 8
    assert len(few) == len(many)


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_setting_aside_on_the_page_takes_a_reason_and_takes_it_out(
    headers: dict[str, str], open_one: Opener, client: Client, alice: User
) -> None:
    approval = stuck(open_one, alice)
    client.force_login(alice)
    refused = client.post(f"/approvals/{approval.pk}/redrive", {"action": "set_aside", "reason": " "}, headers=headers)
    assert refused.status_code == 422
    assert "Say why" in refused.content.decode() and f'id="aside-{approval.pk}" open' in refused.content.decode()
    fields = {"action": "set_aside", "reason": "Paid by hand."}
    done = client.post(f"/approvals/{approval.pk}/redrive", fields, headers=headers)
    assert done.status_code == (200 if headers else 302)
    again = client.post(f"/approvals/{approval.pk}/redrive", fields, headers=headers)
    assert again.status_code == done.status_code
    assert "Everything decided has taken effect" in client.get(PAGE).content.decode()
    assert AuditEvent.objects.filter(kind="approval.set_aside").count() == 1


def test_what_was_typed_comes_back_with_a_refusal(open_one: Opener, client: Client, bob: User, alice: User) -> None:
    approval = stuck(open_one, alice)
    client.force_login(bob)
    refused = act(client, approval, "set_aside", reason="It was I who paid.")
    assert refused.status_code == 403
    assert "It was I who paid." in refused.content.decode()
    client.force_login(alice)
    Approval.objects.update(expected_by=None, took_effect_at=approval.closed_at)
    refused = act(client, approval, "set_aside", reason="It was I who paid.")
    assert refused.status_code == 409
    assert "It has taken effect meanwhile" in refused.content.decode()


def test_telling_the_run_again_is_a_click_without_a_reason(open_one: Opener, client: Client, alice: User) -> None:
    approval = stuck(open_one, alice)
    client.force_login(alice)
    later = database_now() + timedelta(hours=1)
    OutboxEntry.objects.update(due_at=later)
    assert act(client, approval, "deliver").status_code == 302
    assert OutboxEntry.objects.get().due_at < later
    page = client.post(f"/approvals/{approval.pk}/redrive", {"action": "deliver"}, headers={"HX-Request": "true"})
    assert (page.status_code, page["X-Said"]) == (200, "It is being sent again.")


@pytest.mark.parametrize(("who", "status"), [("eve", 403), ("nobody", 302), ("svc", 403)])
def test_strangers_see_no_lane_and_change_nothing(
    who: str, status: int, open_one: Opener, client: Client, alice: User, eve: User
) -> None:
    approval = stuck(open_one, alice)
    if who == "svc":
        service = User.objects.create_user("svc")
        service.groups.add(Group.objects.get_or_create(name="service")[0])
        client.force_login(service)
    elif who == "eve":
        client.force_login(eve)
    assert client.get(PAGE).status_code == status
    assert act(client, approval, "set_aside", reason="x").status_code == status
    assert standing(alice) == [approval.pk]


def test_made_up_actions_ids_and_methods_are_refused(open_one: Opener, client: Client, alice: User) -> None:
    approval = stuck(open_one, alice)
    client.force_login(alice)
    assert act(client, approval, "explode").status_code == 404
    assert client.post("/approvals/apr_none/redrive", {"action": "set_aside", "reason": "x"}).status_code == 404
    assert client.get(f"/approvals/{approval.pk}/redrive").status_code == 405
    assert client.post(PAGE).status_code == 405
    assert client.get(PAGE + "?cursor=%00nonsense").status_code == 200


def test_the_receipt_tells_where_it_stopped_and_why(open_one: Opener, client: Client, alice: User) -> None:
    approval = decided(open_one, alice)
    client.force_login(alice)
    page = client.get(f"/approvals/{approval.pk}/").content.decode()
    assert "Late after 30 s." in page and "data-next" in page
    let_pass(1000)
    page = client.get(f"/approvals/{approval.pk}/").content.decode()
    assert "no relay is alive" in page and f"{PAGE}#lane-{approval.pk}" in page
    assert 'data-step="signalled" data-bad' in page
    note_receipt(approval_ids=[approval.pk], step="resumed")
    note_effect(approval_id=approval.pk, event="refused", detail="alice may no longer decide this.")
    page = client.get(f"/approvals/{approval.pk}/").content.decode()
    assert 'data-step="refused" data-bad' in page and "alice may no longer decide this." in page
    assert "effect_started" not in page
    set_aside(approval_id=approval.pk, by=alice, reason="Bob does it by hand.")
    page = client.get(f"/approvals/{approval.pk}/").content.decode()
    assert "alice: Bob does it by hand." in page and "What can be done" not in page


def test_a_failed_effect_is_no_tick_on_the_receipt(open_one: Opener, client: Client, alice: User) -> None:
    approval = decided(open_one, alice)
    note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=approval.pk, event="failed", detail="failed: The card is closed.")
    client.force_login(alice)
    page = client.get(f"/approvals/{approval.pk}/").content.decode()
    assert 'data-step="effect_finished" data-bad' in page and "Effect failed" in page


def test_rows_from_before_are_filled_from_their_steps(open_one: Opener, alice: User) -> None:
    done, failed, heard, old = (decided(open_one, alice) for _ in range(4))
    rejected = decided(open_one, alice, "reject")
    for approval in (done, failed):
        note_effect(approval_id=approval.pk, event="started")
    note_effect(approval_id=done.pk, event="done")
    note_effect(approval_id=failed.pk, event="failed", detail="failed: The card is closed.")
    note_receipt(approval_ids=[heard.pk, rejected.pk], step="resumed")
    took_effect = dict(Approval.objects.values_list("pk", "took_effect_at"))
    Approval.objects.update(took_effect_at=None, expected_by=None)
    Approval.objects.filter(pk=old.pk).update(closed_at=database_now() - timedelta(days=30))
    with connection.cursor() as cursor:
        cursor.execute(import_module("approvals.migrations.0005_when_it_took_effect").FILL)
    assert dict(Approval.objects.values_list("pk", "took_effect_at")) == took_effect
    let_pass(1000)
    assert sorted(standing(alice)) == sorted([failed.pk, heard.pk])
