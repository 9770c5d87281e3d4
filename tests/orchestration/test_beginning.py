"""The one statement that begins a turn, held against the long way that knows every case."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from approvals import services as approvals
from approvals.models import Approval, Decision, ReceiptStep
from approvals.services import Answer
from console.plain_rows import Rows
from orchestration import beginning, services
from orchestration.contracts import Turn
from orchestration.errors import OrchestrationError
from orchestration.fences import Attempt
from orchestration.models import Run
from orchestration.services import TurnStart
from tests.orchestration.conftest import decide, make_run, open_for, reviewer

pytestmark = pytest.mark.django_db

Begin = Callable[[Turn, Attempt], TurnStart]

ENTRY = {"id": "first", "era": 0, "turn": 3, "attempt": 1}
RUNS: dict[str, dict[str, Any]] = {
    "no turn yet": {},
    "waits": {"temporal_runs": [ENTRY], "turn": 3, "fence": 4, "status": "waiting"},
    "waits, an older row": {
        "temporal_runs": [{"id": "first", "turn": 3, "attempt": 1}],
        "turn": 3,
        "status": "waiting",
    },
    "another Temporal run was last": {"temporal_runs": [ENTRY, ENTRY | {"id": "second"}], "status": "waiting"},
    "a later era": {"temporal_runs": [ENTRY | {"era": 2}], "turn": 3, "era": 2, "status": "waiting"},
    "an era that no turn has begun in": {"temporal_runs": [ENTRY], "turn": 3, "era": 1, "status": "waiting"},
    "failed before": {"temporal_runs": [ENTRY], "turn": 3, "failure": {"turn": 3, "attempt": 1, "kind": "X"}},
    "let go": {"temporal_runs": [ENTRY | {"ended": True}], "turn": 3},
    "paused": {"temporal_runs": [ENTRY], "status": "waiting", "paused": {"by": "olga", "reason": "r", "at": ""}},
    "paused, no turn yet": {"paused": {"by": "olga", "reason": "r", "at": ""}},
    "to be cancelled": {"status": "waiting", "ending": {"action": "cancel", "by": "olga", "reason": "r", "at": ""}},
    "to be failed": {"status": "waiting", "ending": {"action": "fail_activity", "by": "olga", "reason": "r", "at": ""}},
    "finished": {"temporal_runs": [ENTRY], "status": "finished"},
}
ATTEMPTS = [
    (Attempt("first", 4, 1), 0),
    (Attempt("first", 4, 2), 0),
    (Attempt("first", 3, 2), 0),
    (Attempt("first", 3, 1), 0),
    (Attempt("first", 2, 9), 0),
    (Attempt("second", 1, 1), 0),
    (Attempt("first", 5, 1), 2),
    (Attempt("third", 1, 1), 3),
]
MOMENTS = ("look_due_at", "created_at", "failing_since")


def _told(begin: Begin, turn: Turn, attempt: Attempt) -> dict[str, Any]:
    """Return all that comes of a begin, and take it back."""
    found: dict[str, Any] = {}
    with transaction.atomic():
        try:
            start = begin(turn, attempt)
        except OrchestrationError as exc:
            found["raised"] = (type(exc), str(exc))
        else:
            found |= {"settled": start.settled, "paused": start.is_paused, "calls": start.approved_calls}
            found["fence"] = start.run and (start.run.fence, start.run.turn, start.run.era, start.run.temporal_runs)
        row: dict[str, Any] = dict(Run.objects.values().get(pk=turn.run_id))
        failure = row.pop("failure")
        found["failure"] = failure and (failure["turn"], failure["attempt"], failure["kind"])
        found["row"] = {name: value for name, value in row.items() if name not in MOMENTS}
        found["receipts"] = sorted(ReceiptStep.objects.values_list("approval_id", "step", "detail"))
        late = Approval.objects.order_by("pk").values_list("pk", "took_effect_at", "expected_by")
        found["late"] = [(pk, bool(took_effect), bool(due)) for pk, took_effect, due in late]
        transaction.set_rollback(True)
    return found


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("decided", [None, (), (0,), (0, 1)])
def test_the_short_way_does_what_the_long_one_does(kind: str, decided: tuple[int, ...] | None) -> None:
    run = make_run(**RUNS[kind])
    opened = [] if decided is None else [open_for(run), open_for(run)]
    for place in decided or ():
        decide(opened[place], "reject" if place else "approve", note="no")
    ids = [approval.pk for approval in opened]
    for attempt, era in ATTEMPTS:
        turn = Turn(run.pk, "support", attempt.turn, [*ids, "apr_unknown"] if ids else [], era)
        assert _told(services.begin_turn, turn, attempt) == _told(services._begin_turn_at_length, turn, attempt)


def test_what_people_changed_is_read_as_the_long_way_does() -> None:
    run = make_run(**RUNS["waits"])
    approval = open_for(run)
    changed = {**approval.arguments, "amount": "12.00", "reason": "ünï “code” \\ 'quoted'"}
    given = Answer("edit", approval.version, approval.digest, note="less", edited_arguments=changed)
    approvals.decide(approval_id=approval.pk, reviewer=reviewer("ada"), given=given)
    decide(Approval.objects.get(pk=approval.pk))  # who changes it may not agree to it
    turn, attempt = Turn(run.pk, "support", 4, [approval.pk]), Attempt("first", 4, 1)
    begun = _told(services.begin_turn, turn, attempt)
    assert begun["settled"][0].ending.arguments == changed
    assert begun == _told(services._begin_turn_at_length, turn, attempt)


def test_each_column_is_read_from_json_as_from_the_row() -> None:
    approval = Approval.objects.get(pk=decide(open_for(make_run(), agent_words="ü", batch="b")).pk)
    for of in (Rows(Approval), Rows(Decision), Rows(Run)):
        found: Any = approval.decisions.get() if of._model is Decision else approval
        found = Run.objects.get(pk=approval.run_id) if of._model is Run else found
        table = of._model._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {of.json('t')}::text FROM {table} t WHERE t.id = %s", [found.pk])
            again = of.read_json(json.loads(cursor.fetchone()[0]))
        for field in of._model._meta.concrete_fields:
            wanted = getattr(found, field.attname)
            wanted = bytes(wanted) if isinstance(wanted, memoryview) else wanted
            assert getattr(again, field.attname) == wanted, field.attname


def test_what_is_usual_takes_the_short_way() -> None:
    for kind, attempt in (("no turn yet", ATTEMPTS[0]), ("waits", ATTEMPTS[0]), ("a later era", ATTEMPTS[6])):
        run = make_run(**RUNS[kind])
        approval = decide(open_for(run))
        turn = Turn(run.pk, "support", attempt[0].turn, [approval.pk], attempt[1])
        assert beginning.begin_as_usual(turn, attempt[0]).run is not None, kind


def test_an_interrupt_with_a_place_open_is_not_answered() -> None:
    run = make_run(**RUNS["waits"])
    places = [open_for(run, interrupt_id="two", interrupt_place=place, places=2) for place in range(2)]
    turn = Turn(run.pk, "support", 4, [one.pk for one in places])
    for place, is_answered in zip(places, (False, True), strict=True):
        decide(place)
        assert beginning.begin_as_usual(turn, Attempt("first", 4, 1)).is_answered is is_answered
