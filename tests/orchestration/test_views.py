"""The pages of runs and the form that starts one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.template.loader import render_to_string
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from approvals.models import Decision
from console.templatetags.signalbox import span
from orchestration import forms
from orchestration.agents.registry import agents
from orchestration.models import Run
from tests.page_client import signed_in, text

from .conftest import make_run, open_for

RUNS, START = reverse("orchestration:runs"), reverse("orchestration:start")
BY_SCRIPT = {"HX-Request": "true"}


def test_the_list_finds_a_run_by_id_and_by_words_of_its_input(alice: User) -> None:
    run = make_run(input={"order_id": "7713", "message": "the blue lamp"})
    other = make_run(input={"order_id": "9000", "message": "a chair"}, status="failed")
    client = signed_in(alice)
    for words in (run.pk, "7713", "BLUE lamp"):
        shown = text(client.get(RUNS, {"search": words}, headers=BY_SCRIPT))
        assert run.pk in shown and other.pk not in shown
    failed = text(client.get(RUNS, {"status": "failed"}, headers=BY_SCRIPT))
    assert other.pk in failed and run.pk not in failed
    assert "No run fits" in text(client.get(RUNS, {"search": "sofa"}))


def test_a_row_says_what_it_is_about_whom_it_waits_for_and_why_it_stands_still(alice: User) -> None:
    run = make_run(status="waiting", usage={"input_tokens": 1200, "output_tokens": 34})
    open_for(run)
    took = {"started_at": run.created_at, "closed_at": run.created_at + timedelta(minutes=4, seconds=10)}
    done = make_run(status="finished", **took)
    stuck = make_run(status="running", cause="no_worker", cause_group="no_worker", cause_sentence="No worker is alive.")
    client = signed_in(alice)
    shown = text(client.get(RUNS))
    assert "Order 8801: The parcel arrived broken." in shown and ">alice</a>" in shown
    assert "4 min 10 s" in shown and "1234" in shown and "No worker is alive." in shown
    narrowed = text(client.get(RUNS, {"stuck": "1", "cause": "no_worker"}, headers=BY_SCRIPT))
    assert stuck.pk in narrowed and run.pk not in narrowed and done.pk not in narrowed
    assert text(client.get(RUNS, {"stuck": "1", "cause": "another"}, headers=BY_SCRIPT)).count("run-row-") == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (250, "4 min 10 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (3601, "1 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: int, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_the_list_costs_the_same_for_two_rows_and_for_twenty(alice: User) -> None:
    client = signed_in(alice)

    def cost() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(RUNS).status_code == 200
        return len(captured)

    open_for(make_run(status="waiting"))
    few = cost()
    for _ in range(12):
        open_for(make_run(status="waiting"))
    assert cost() == few
    assert few <= 18  # six of them for the names of those who could decide


@pytest.mark.parametrize("limit", ["9" * 5_000, "-1", "²", "many"])
def test_a_limit_that_is_none_shows_the_list_as_usual(alice: User, limit: str) -> None:
    run = make_run()
    assert run.pk in text(signed_in(alice).get(RUNS, {"limit": limit}))


def test_the_run_page_says_what_it_waits_for_and_who_can_decide(alice: User) -> None:
    run = make_run(status="waiting", turn=1)
    approval = open_for(run, summary="Refund of the lamp")
    shown = text(signed_in(alice).get(reverse("orchestration:run", args=[run.pk])))
    assert "Refund of the lamp" in shown
    assert "the role reviewer" in shown
    assert reverse("approvals:approval", args=[approval.pk]) in shown
    assert "No checkpoint yet" in shown


def test_a_failed_run_says_why(alice: User) -> None:
    run = make_run(status="failed", error={"kind": "ToolFailed", "message": "The shop <b>is</b> away."})
    shown = text(signed_in(alice).get(reverse("orchestration:run", args=[run.pk]), headers=BY_SCRIPT))
    assert "ToolFailed" in shown and "&lt;b&gt;" in shown
    assert "<html" not in shown


@pytest.mark.parametrize("path", ["/runs/none/", "/runs/none/checkpoints/none/", "/runs/a%00b/", "/approvals/a%00b/"])
def test_what_is_not_there_is_told_in_words(alice: User, path: str) -> None:
    response = signed_in(alice).get(path)
    assert response.status_code == 404
    assert "names nothing" in text(response)


def test_a_checkpoint_of_another_run_is_not_there(alice: User) -> None:
    run = make_run()
    for checkpoint in ("1f0", "%00"):
        assert signed_in(alice).get(f"/runs/{run.pk}/checkpoints/{checkpoint}/").status_code == 404


def test_a_reviewer_starts_nothing(alice: User) -> None:
    client = signed_in(alice)
    assert client.get(START).status_code == 403
    assert client.post(START, {"agent": "support"}).status_code == 403
    assert not Run.objects.exists()


def test_an_operator_starts_a_run_once_however_often_the_form_is_sent(olga: User) -> None:
    client = signed_in(olga)
    sent = {"agent": "support", "key": "01k", "input.order_id": "8801", "input.message": "It\r\nbroke."}
    answers = [client.post(START, sent) for _ in range(2)]
    run = Run.objects.get()
    assert [answer["Location"] for answer in answers] == [reverse("orchestration:run", args=[run.pk])] * 2
    assert run.input == {"order_id": "8801", "message": "It\nbroke."}
    assert run.requested_by == olga


def test_a_fault_stands_at_its_field_and_nothing_typed_is_lost(olga: User) -> None:
    response = signed_in(olga).post(
        START, {"agent": "support", "key": "01k", "input.order_id": "x" * 65, "input.message": "  kept <b>  "}
    )
    assert response.status_code == 422
    shown = text(response)
    assert "at most 64 characters" in shown[shown.index('id="field-order_id"') : shown.index('id="field-message"')]
    assert "  kept &lt;b&gt;  " in shown
    assert not Run.objects.exists()


def test_a_key_of_another_run_is_refused_with_the_form(olga: User) -> None:
    client = signed_in(olga)
    sent = {"agent": "support", "key": "01k", "input.order_id": "8801", "input.message": "It broke."}
    client.post(START, sent)
    response = client.post(START, sent | {"input.message": "Something else."})
    assert response.status_code == 422
    assert "already started a run" in text(response) and "Something else." in text(response)


def test_what_the_agents_model_refuses_stands_at_its_field_or_above_the_form(olga: User) -> None:
    form = forms.input_form(agents()["support"])
    errors = [{"path": "input.order_id", "message": "No."}, {"path": "input", "message": "Not at all."}]
    forms.place_faults(form, [*errors, {"path": "agent", "message": "Which one?"}])
    assert form.root.children["order_id"].faults == ["No."]
    assert form.faults == ["Not at all.", "agent: Which one?"]
    response = signed_in(olga).post(START, {"agent": "support", "key": "01k", "input.order_id": "a\x00b"})
    shown = text(response)
    assert response.status_code == 422 and not Run.objects.exists()
    assert "(NUL, or half of one)" in shown and "This is needed." in shown[shown.index('id="field-message"') :]


def test_what_the_policy_decided_is_said_to_be_decided_by_it() -> None:
    votes = SimpleNamespace(all=[Decision(verdict="approve", by=None, channel="policy")])
    asked = SimpleNamespace(pk="apr_1", summary="Refund", kind="action", tool="refund", decisions=votes)
    asked.opened_at = datetime(2026, 11, 30, tzinfo=UTC)
    story = {"approvals": [asked], "count": 1, "effects": [], "next_cursor": ""}
    assert "by the policy</span>" in render_to_string("orchestration/_run_asked.html", {"story": story})
