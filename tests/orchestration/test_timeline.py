"""A run's timeline: every layer in one order, page by page, with and without an engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals.models import Approval, AuditEvent, ReceiptStep
from orchestration.contracts import StartRun
from orchestration.errors import TemporalAway
from orchestration.models import Effect, Run
from orchestration.temporal_gateway import RealTemporal
from orchestration.timeline import drawing, story, temporal
from orchestration.timeline.entries import Entry
from tests.api_caller import Caller
from tests.fakes import FakeTemporal, FakeWorld
from tests.page_client import signed_in

from . import test_run_turn as turns
from .conftest import decide, go, make_run, open_for

pytestmark = pytest.mark.django_db(transaction=True)
published = turns.published  # the handbook, as the turn's tests have it
BY_SCRIPT = {"HX-Request": "true"}
R = TypeVar("R", bound=Model)


@pytest.fixture
def no_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers for Temporal."""

    async def connect() -> Any:
        raise TemporalAway("the test says so")

    monkeypatch.setattr(RealTemporal, "connect", connect)
    monkeypatch.setattr(temporal, "_silent_until", 0.0)


def address(run: Run, **asked: str) -> str:
    return reverse("orchestration:timeline", args=[run.pk], query=asked)


def worked_run(world: FakeWorld) -> Run:
    """Return a run that has asked, was answered, has acted and asks again."""
    run = make_run()
    asked = turns.take(turns.start(run), world)
    decide(asked.waiting_for[0])
    turns.take(turns.after(run, 2, *asked.waiting_for), world)
    run.refresh_from_db()
    return run


def test_all_layers_stand_in_one_order(world: FakeWorld, alice: User, no_temporal: None) -> None:
    run = worked_run(world)
    answer = Caller(alice).get(f"runs/{run.pk}/timeline").json()
    items = answer["items"]
    assert [item["at"] for item in items] == sorted(item["at"] for item in items)
    assert {item["layer"] for item in items} >= {"console", "langgraph", "world"}
    assert {item["kind"] for item in items} >= {"request", "delivery", "checkpoint", "interrupt", "effect"}
    assert set(items[0]) >= {"at", "layer", "kind", "title", "detail", "reference"}
    assert answer["missing"][0]["layer"] == "temporal" and "does not answer" in answer["missing"][0]["sentence"]
    effect = next(item for item in items if item["kind"] == "effect")
    assert effect["reference"] == Effect.objects.get().pk and effect["duration_seconds"] >= 0


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("most", [1, 3, 7])
def test_pages_hold_every_row_once(world: FakeWorld, newest_first: bool, most: int) -> None:
    run = worked_run(world)
    whole = story.page(run, newest_first=newest_first, most=200).entries
    pages = paged(run, newest_first, most)
    assert [entry.place for entry in pages] == [entry.place for entry in whole]
    assert len(whole) > 15


def paged(run: Run, newest_first: bool, most: int) -> list[Entry]:
    """Return the whole story, read page by page."""
    pages: list[Entry] = []
    cursor = ""
    while True:
        told = story.page(run, newest_first=newest_first, most=most, cursor=cursor)
        pages += told.entries
        cursor = told.next_cursor
        if not cursor:
            return pages


@pytest.mark.parametrize("newest_first", [True, False])
def test_what_stands_at_one_instant_is_told_to_its_end(world: FakeWorld, newest_first: bool) -> None:
    run = worked_run(world)
    (effect,), at = Effect.objects.filter(run=run), datetime.now(UTC)
    asked = [open_for(run) for _ in range(3)]
    ids = [f"apr_{number}" for number in range(60)]
    Approval.objects.bulk_create(copy(asked[0], id=one, external_id=one, interrupt_id=one) for one in ids)
    Effect.objects.bulk_create(copy(effect, approval_id=one, started_at=at) for one in ids)
    steps = ("recorded", "signalled")
    ReceiptStep.objects.bulk_create(ReceiptStep(approval_id=one, step=step, at=at) for one in ids for step in steps)
    kinds = ("run.stuck", "run.cancel_requested")
    AuditEvent.objects.bulk_create(
        AuditEvent(at=at, actor="relay", kind=kinds[number % 2], subject=run.pk, body={}, digest=f"{number}")
        for number in range(120)  # so that the numbers of rows have different lengths
    )
    Approval.objects.filter(run_id=run.pk).update(opened_at=at)
    whole = story.page(run, newest_first=newest_first, most=1000).entries
    for kind in ("request", "delivery", "effect", *kinds):
        assert len([entry for entry in whole if entry.kind == kind and entry.at == at]) >= 60
    for most in (7, 50):
        assert [entry.place for entry in paged(run, newest_first, most)] == [entry.place for entry in whole]


def copy(row: R, **changes: Any) -> R:
    """Return a new row with the same values but for the changes."""
    kept = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return type(row)(**kept | changes)


@pytest.mark.parametrize("cursor", ["nonsense", "W10=", "WyJ4Il0=", "é", "WzEsMiwzLDRd"])
def test_a_cursor_that_is_none_begins_anew(world: FakeWorld, alice: User, cursor: str) -> None:
    run = worked_run(world)
    assert story.page(run, cursor=cursor).entries == story.page(run).entries
    assert signed_in(alice).get(address(run, cursor=cursor)).status_code == 200


def test_a_step_after_a_question_does_not_count_the_wait(world: FakeWorld) -> None:
    run = make_run()
    asked = turns.take(turns.start(run), world)
    Approval.objects.update(opened_at=datetime.now(UTC) - timedelta(hours=3))
    decide(asked.waiting_for[0])
    turns.take(turns.after(run, 2, *asked.waiting_for), world)
    told = story.page(run, most=200).entries
    gate = next(entry for entry in told if entry.layer == "langgraph" and entry.title == "gate")
    resumed = next(entry for entry in told if entry.kind == "delivery")
    assert gate.began_at == resumed.ended_at
    waited = next(entry for entry in told if entry.kind == "request" and entry.state == "done")
    assert waited.took is not None and waited.took > timedelta(hours=2)


def test_what_waits_or_fails_stands_above(world: FakeWorld, alice: User) -> None:
    run = worked_run(world)
    told = story.page(run)
    assert [entry.state for entry in told.now] == ["waiting"]
    failed = {"turn": 2, "attempt": 51, "since": "2026-11-29T01:00:00+00:00", "message": "the shop is <closed>"}
    Run.objects.update(failure=failed, status="running")
    run.refresh_from_db()
    now = story.page(run).now
    assert (now[0].state, now[0].kind) == ("failed", "turn")
    shown = signed_in(alice).get(address(run)).content.decode()
    assert "Turn 2 fails, attempt 51" in shown and "&lt;closed&gt;" in shown
    assert shown.index("attempt 51") < shown.index("What happened")


def test_layers_and_states_are_filtered(world: FakeWorld, alice: User) -> None:
    run = worked_run(world)
    assert {entry.layer for entry in story.page(run, layers=["world"]).entries} == {"world"}
    assert {entry.state for entry in story.page(run, only="open").entries} == {"waiting"}
    assert story.page(run, only="failed").is_empty is False or story.page(run, only="failed").entries == []
    client = signed_in(alice)
    assert "Nothing here" not in client.get(address(run, layer="langgraph")).content.decode()
    assert client.get(address(run, layer="nonsense", only="nonsense")).status_code == 200


def test_a_run_that_nobody_has_touched_has_a_story(alice: User, no_temporal: None) -> None:
    run = make_run()
    client = signed_in(alice)
    assert "Nothing here" in client.get(address(run)).content.decode()
    shown = client.get(address(run, temporal="1"), headers=BY_SCRIPT).content.decode()
    assert "does not answer just now" in shown and 'hx-trigger="load"' not in shown
    assert Caller(alice).get(f"runs/{run.pk}/timeline").json()["items"] == []


def test_the_page_asks_no_engine_by_itself(world: FakeWorld, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(*_: Any) -> Any:
        raise AssertionError("an engine was asked")

    monkeypatch.setattr(temporal, "part", part)
    run = worked_run(world)
    client = signed_in(alice)
    for page in (address(run), reverse("orchestration:run", args=[run.pk])):
        shown = client.get(page).content.decode()
        assert "part is being asked for" in shown


def test_a_story_costs_the_same_however_long_it_is(world: FakeWorld, alice: User) -> None:
    run = worked_run(world)

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            story.page(run)
        return len(captured)

    few = cost()
    for _ in range(30):
        open_for(run)
    assert cost() == few <= 16


def test_temporals_signals_are_part_of_it(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    door, run = FakeTemporal(), make_run()

    async def connect() -> FakeTemporal:
        return door

    monkeypatch.setattr(RealTemporal, "connect", connect)

    async def scene() -> None:
        await door.start_run(StartRun(run.pk, run.agent))
        for number in range(300):
            await door.signal_decided(run.pk, "apr_1", f"dec_{number}")

    go(scene())
    items: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"limit": 90}
    while True:
        answer = Caller(alice).get(f"runs/{run.pk}/timeline", **asked).json()
        items += answer["items"]
        if answer["next"] is None:
            break
        asked["cursor"] = answer["next"]
    references = [item["reference"] for item in items if item["layer"] == "temporal"]
    assert len(references) == len(set(references)) == 301
    newest: list[str] = []
    cursor = ""
    while True:
        told = story.page(run, cursor=cursor, ask_temporal=True)
        newest += [entry.reference for entry in told.entries]
        cursor = told.next_cursor
        if not cursor:
            break
    assert newest == references[::-1]


def test_bars_keep_their_order_and_fit() -> None:
    begin = datetime(2026, 11, 29, tzinfo=UTC)
    spans = [(0, 1), (1, 259_200), (259_200, 259_201), (5, 6)]
    entries = [
        Entry(
            at=begin + timedelta(seconds=start),
            layer="langgraph",
            kind="checkpoint",
            title="n",
            reference=str(number),
            began_at=begin + timedelta(seconds=start),
            ended_at=begin + timedelta(seconds=end),
        )
        for number, (start, end) in enumerate(spans)
    ]
    drawn = drawing.drawn(entries, [one.reference for one in entries], None, begin)
    assert drawn is not None and drawn.is_bent
    (lane,) = drawn.lanes
    bars = {bar.key: bar for bar in lane.bars}
    assert bars["0"].x == 0 and bars["2"].x + bars["2"].width == pytest.approx(drawing.WIDTH, abs=0.2)
    assert bars["0"].width > 5 and bars["3"].x > bars["1"].x and bars["3"].y != bars["1"].y
    assert drawn.ticks[0] == begin and drawn.ticks == sorted(drawn.ticks)
