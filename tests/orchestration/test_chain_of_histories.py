"""A run whose story is three histories of Temporal, and a Temporal that takes the question and never answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from approvals.models import Approval
from orchestration.errors import WorkflowGone
from orchestration.models import Run
from orchestration.temporal_gateway import RealTemporal, histories
from orchestration.temporal_protocol import Described, HistoryPage, WorkflowSeen
from orchestration.timeline import story, temporal
from orchestration.timeline.entries import Entry
from tests.api_caller import Caller
from tests.orchestration.conftest import go, make_run, open_for

pytestmark = pytest.mark.django_db(transaction=True)

BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
PAGE = 6  # events
BY_SCRIPT = {"HX-Request": "true"}


def event(number: int, second: int, kind: str, **holds: Any) -> dict[str, Any]:
    at = (BEGIN + timedelta(seconds=second)).isoformat()[:-6] + "Z"
    return {"eventId": str(number), "eventTime": at, "eventType": f"EVENT_TYPE_{kind}", "xEventAttributes": holds}


def signal(number: int, second: int, name: str) -> dict[str, Any]:
    return event(number, second, "WORKFLOW_EXECUTION_SIGNALED", signalName=name)


#: `first` is continued as `second`, which is set back past its signal "dropped" and goes on as `third`
FIRST = [
    event(1, 0, "WORKFLOW_EXECUTION_STARTED"),
    *(signal(number, number, f"first-{number}") for number in range(2, 9)),
    event(9, 9, "WORKFLOW_EXECUTION_CONTINUED_AS_NEW", newExecutionRunId="second"),
]
KEPT = [
    event(1, 10, "WORKFLOW_EXECUTION_STARTED", continuedExecutionRunId="first"),
    *(signal(number, 9 + number, f"second-{number}") for number in range(2, 6)),
]
SECOND = [*KEPT, signal(6, 20, "dropped"), event(7, 30, "WORKFLOW_EXECUTION_TERMINATED", reason="reset")]
RESET = "WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW"
THIRD = [
    *KEPT,
    event(6, 31, "WORKFLOW_TASK_FAILED", cause=RESET, baseRunId="second", newRunId="third"),
    *(signal(number, 30 + number, f"third-{number}") for number in range(7, 12)),
]
HISTORIES = {"first": FIRST, "second": SECOND, "third": THIRD}


class Chain:
    """Temporal's answers about the three, PAGE events at a time."""

    async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
        return Described("third", WorkflowSeen("running"), BEGIN, None, len(THIRD))

    async def history(self, _: str, temporal_run_id: str = "", *, after: str = "", most: int = 100) -> HistoryPage:
        return _page(_kept(temporal_run_id), after)

    async def history_back(self, _: str, temporal_run_id: str = "", *, after: str = "", most: int = 100) -> HistoryPage:
        return _page(_kept(temporal_run_id)[::-1], after)


def _kept(temporal_run_id: str) -> list[dict[str, Any]]:
    if temporal_run_id not in HISTORIES:
        raise WorkflowGone("It was deleted.")
    return HISTORIES[temporal_run_id]


def _page(events: list[dict[str, Any]], after: str) -> HistoryPage:
    end = int(after or 0) + PAGE
    return HistoryPage(events[int(after or 0) : end], str(end) if end < len(events) else "")


@pytest.fixture
def chained(monkeypatch: pytest.MonkeyPatch) -> Run:
    async def connect() -> Any:
        return Chain()

    monkeypatch.setattr(RealTemporal, "connect", connect)
    monkeypatch.setattr(temporal, "_silent_until", 0.0)
    runs = [{"id": one, "era": 0, "turn": 1, "attempt": 1} for one in ("first", "second", "third")]
    return make_run(status="running", temporal_run_id="third", temporal_runs=runs)


@pytest.mark.parametrize("most", [2, 5, 100])
def test_three_histories_are_one_story_in_which_each_event_stands_once(
    chained: Run, most: int, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [
        *(f"first/{number}" for number in range(1, 10)),
        *(f"second/{number}" for number in range(1, 8)),
        *(f"third/{number}" for number in range(6, 12)),
    ]
    oldest: list[str] = []
    asked: dict[str, Any] = {"limit": most}
    while True:
        answer = Caller(alice).get(f"runs/{chained.pk}/timeline", **asked).json()
        oldest += [item["reference"] for item in answer["items"] if item["layer"] == "temporal"]
        if answer["next"] is None:
            break
        asked["cursor"] = answer["next"]
    assert oldest == whole
    newest: list[str] = []
    cursor = ""
    while True:
        told = story.page(chained, cursor=cursor, ask_temporal=True)
        newest += [entry.reference for entry in told.entries if entry.layer == "temporal"]
        cursor = told.next_cursor
        if not cursor:
            break
    assert newest == whole[::-1]


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        (["first"], ["second/1 7", "third/6 11"]),
        (["first", "second"], ["third/1 11"]),
        (["second"], ["first/1 9", "third/1 11"]),
    ],
    ids=["the oldest", "all but the newest", "one in between"],
)
def test_what_is_left_is_told_though_temporal_has_deleted_a_link(
    chained: Run, gone: list[str], left: list[str], alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in gone:
        monkeypatch.delitem(HISTORIES, name)
    whole = [
        f"{name}/{number}"
        for name, numbers in (one.split("/") for one in left)
        for number in range(int(numbers.split()[0]), int(numbers.split()[1]) + 1)
    ]
    told = story.page(chained, most=100, newest_first=False, ask_temporal=True)
    assert [entry.reference for entry in told.entries if entry.layer == "temporal"] == whole
    assert told.missing == temporal.PARTLY_GONE
    back = story.page(chained, most=100, ask_temporal=True)
    seen = [entry.reference for entry in back.entries if entry.layer == "temporal"]
    assert seen == whole[::-1]
    assert back.missing == temporal.PARTLY_GONE
    assert [one["sentence"] for one in Caller(alice).get(f"runs/{chained.pk}/timeline").json()["missing"]] == [
        temporal.PARTLY_GONE
    ]


def test_histories_to_keep_begin_where_temporal_still_has_them() -> None:
    class Continued(Chain):
        """Each run continues the one before it; "" is the newest."""

        kept: tuple[str, ...] = ("", "second", "first")

        async def history(self, _: str, temporal_run_id: str = "", *, after: str = "", most: int = 100) -> HistoryPage:
            if temporal_run_id not in self.kept:
                raise WorkflowGone("It was deleted.")
            before = {"": "second", "second": "first"}.get(temporal_run_id, "")
            began = {"continuedExecutionRunId": before} if before else {}
            return HistoryPage([{"eventId": temporal_run_id, "workflowExecutionStartedEventAttributes": began}], "")

    chain = Continued()
    reads: Any = chain
    for kept in (("", "second", "first"), ("", "second"), ("",)):
        chain.kept = kept
        assert [one["events"][0]["eventId"] for one in go(histories(reads, "support-1"))] == list(kept[::-1])
    chain.kept = ()
    with pytest.raises(WorkflowGone):
        go(histories(reads, "support-1"))


#: nearly all of it is the workflow's own tasks, which have no row; what has one is far apart
QUIET = [
    signal(number, number, f"rare-{number}") if number % 70 == 0 else event(number, number, "WORKFLOW_TASK_SCHEDULED")
    for number in range(2, 700)
]
SLOW = event(1, 1, "ACTIVITY_TASK_SCHEDULED", activityId="1", activityType={"name": "slow"})
ENDED = event(700, 700, "ACTIVITY_TASK_COMPLETED", scheduledEventId="1")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a run whose history has few rows on many pages, with requests in between."""

    class Quiet(Chain):
        async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
            return Described("quiet", WorkflowSeen("running"), BEGIN, None, len(QUIET) + 2)

        async def history(self, *_: Any, after: str = "", most: int = 100) -> HistoryPage:
            return _page([SLOW, *QUIET, ENDED], after)

        async def history_back(self, *_: Any, after: str = "", most: int = 100) -> HistoryPage:
            return _page([SLOW, *QUIET, ENDED][::-1], after)

    async def connect() -> Any:
        return Quiet()

    monkeypatch.setattr(RealTemporal, "connect", connect)
    monkeypatch.setattr(temporal, "_silent_until", 0.0)
    run = make_run(status="running", temporal_run_id="quiet", temporal_runs=[{"id": "quiet", "era": 0}])
    for second in (100, 300, 650):
        asked = open_for(run)
        Approval.objects.filter(pk=asked.pk).update(opened_at=BEGIN + timedelta(seconds=second))
    return run


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("most", [3, 40])
def test_a_history_whose_pages_hold_few_rows_is_told_to_its_end(quiet: Run, most: int, newest_first: bool) -> None:
    found: list[Entry] = []
    cursor = ""
    while True:
        told = story.page(quiet, most=most, cursor=cursor, newest_first=newest_first, ask_temporal=True)
        found += told.entries
        if not told.next_cursor:
            break
        assert told.next_cursor != cursor
        cursor = told.next_cursor
    assert [entry.place for entry in found] == sorted((entry.place for entry in found), reverse=newest_first)
    titles = [entry.reference for entry in found if entry.layer == "temporal" and entry.kind != "activity"]
    assert sorted(titles) == sorted(f"quiet/{number}" for number in range(70, 700, 70))
    assert len([entry for entry in found if entry.kind == "request"]) == 3
    assert len({entry.place for entry in found}) == len(found)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_filter_looks_past_what_it_leaves_out(newest_first: bool) -> None:
    run = make_run(status="running")
    many = [open_for(run) for _ in range(story.MOST + 20)]
    Approval.objects.exclude(pk=many[0 if newest_first else -1].pk).update(status="withdrawn", closed_at=BEGIN)
    told = story.page(run, only="open", newest_first=newest_first)
    assert told.entries == [] and told.next_cursor
    after = story.page(run, only="open", newest_first=newest_first, cursor=told.next_cursor)
    assert [entry.state for entry in after.entries] == ["waiting"] and not after.next_cursor


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let Temporal take every question and answer none; return for how long a page was ready to wait, each time."""
    waits: list[float] = []

    class Hung:
        async def _never(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()  # nobody sets it

        describe = history = history_back = task_fault = _never

    async def connect() -> Any:
        return Hung()

    real_wait = asyncio.wait_for

    async def wait_for(awaitable: Any, seconds: float) -> Any:
        waits.append(seconds)
        return await real_wait(awaitable, seconds)

    monkeypatch.setattr(RealTemporal, "connect", connect)
    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    monkeypatch.setattr(temporal, "_silent_until", 0.0)
    return waits


def test_a_temporal_that_hangs_keeps_no_timeline_and_it_says_what_is_not_known(hung: list[float], alice: User) -> None:
    run = make_run(status="waiting")
    client = Client()
    client.force_login(alice)
    address = reverse("orchestration:timeline", args=[run.pk])
    assert "does not answer" not in client.get(address).content.decode()
    assert hung == [], "the page itself asks no engine"
    part = client.get(address, {"temporal": "1"}, headers=BY_SCRIPT).content.decode()
    assert temporal.AWAY in part
    told = Caller(alice).get(f"runs/{run.pk}/timeline").json()
    assert told["missing"] == [{"layer": "temporal", "sentence": temporal.AWAY}]
    assert hung == [temporal.DEADLINE] and temporal.DEADLINE <= 1.5, "whoever asks soon after does not wait again"
