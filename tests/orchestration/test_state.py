"""The state of a run's graph: its pages, its steps, and what an author hides."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from orchestration import histories
from orchestration.checkpoint_gateway import checkpoints_of, id_at
from orchestration.models import Run
from orchestration.state import kept_marks, shape
from orchestration.state.secrets import UNKNOWN
from tests.api_caller import Caller, problem
from tests.fakes import FakeWorld
from tests.page_client import signed_in

from . import test_run_turn as turns
from .conftest import decide, make_run

pytestmark = pytest.mark.django_db(transaction=True)
published = turns.published  # the handbook, as the turn's tests have it


def seed(run: Run, values: dict[str, Any], *, number: int = 0, parent: str | None = None) -> str:
    """Write one checkpoint as LangGraph does; return its id."""
    at = datetime(2026, 11, 29, 1, 0, tzinfo=UTC) + timedelta(seconds=number)
    checkpoint_id = f"{id_at(at)}-8000-{number:012x}"
    versions = dict.fromkeys(values, f"{number:08}")
    checkpoint = {
        "v": 4,
        "id": checkpoint_id,
        "ts": at.isoformat(),
        "channel_values": {},
        "channel_versions": versions,
        "updated_channels": [*values, "branch:to:plan"],
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agent.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint,"
            " metadata) VALUES (%s, '', %s, %s, %s, %s)",
            [run.pk, checkpoint_id, parent, json.dumps(checkpoint), json.dumps({"source": "loop", "step": number})],
        )
        for name, value in values.items():
            kind, blob = JsonPlusSerializer().dumps_typed(value)
            cursor.execute(
                "INSERT INTO agent.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
                " VALUES (%s, '', %s, %s, %s, %s)",
                [run.pk, name, versions[name], kind, blob],
            )
    return checkpoint_id


def page(run: Run, checkpoint_id: str, name: str = "checkpoint") -> str:
    return reverse(f"orchestration:{name}", args=[run.pk, checkpoint_id])


def test_an_authors_marks_hold_at_every_door(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(input={"order_id": "8801", "card": "kept-4929-1"})
    first = seed(run, {"card": "kept-4929-1", "note": "open"})
    second = seed(run, {"card": "kept-4929-2", "note": "shut"}, number=1, parent=first)
    from orchestration.state import secrets

    monkeypatch.setattr(secrets, "_marked_in", lambda _: ("card",))
    said = _said(run, second, alice)
    assert [text for text in said if "kept-4929" in text] == []
    assert "shut" in said[0] and "shut" in said[8] and "shut" in said[-1], "page, API, evidence"


def _said(run: Run, checkpoint_id: str, user: User) -> list[str]:
    """Return what every door says of a run and its state."""
    client, caller = signed_in(user), Caller(user)
    pages = [page(run, checkpoint_id, name) for name in ("checkpoint", "difference")]
    pages += [page(run, checkpoint_id, "value") + '?at=["values"]&download=1']
    pages += [reverse("orchestration:run", args=[run.pk]), reverse("orchestration:runs")]
    part = client.get(reverse("orchestration:run_rest", args=[run.pk]), headers={"HX-Request": "true"})
    paths = [f"runs/{run.pk}", "runs", f"runs/{run.pk}/checkpoints/{checkpoint_id}"]
    paths += [f"runs/{run.pk}/checkpoints/{checkpoint_id}/diff"]
    said = [client.get(one).content.decode() for one in pages] + [part.content.decode()]
    said += [caller.get(one).content.decode() for one in paths]
    return [*said, json.dumps([histories.run(run.pk), histories.checkpoints(run.pk)], default=str)]


def test_the_marks_of_an_agent_that_is_gone_go_on_to_hold(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_marks, "_read", None)
    kept_marks.keep({"gone": ("card",), "other": ()})
    kept_marks.keep({"gone": ("pin",)})  # by a worker of other code
    run = make_run(agent="gone", input={"order_id": "8801", "card": "kept-4929-1"})
    first = seed(run, {"card": "kept-4929-1", "note": "open"})
    second = seed(run, {"card": "kept-4929-2", "pin": "kept-4929-3", "note": "shut"}, number=1, parent=first)
    said = _said(run, second, alice)
    assert [text for text in said if "kept-4929" in text] == []
    assert "shut" in said[0] and "8801" in said[3] and not [text for text in said if UNKNOWN in text]
    assert kept_marks.kept() == {"gone": ("card", "pin"), "other": ()}


def test_of_an_agent_that_nobody_knows_every_value_is_hidden_and_it_says_why(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_marks, "_read", None)
    run = make_run(agent="nobody-knows", input={"card": "kept-4929-1"}, status="finished", result={"card": "kept-4929"})
    checkpoint_id = seed(run, {"card": "kept-4929-2", "words": ["kept-4929-3"], "number": 49294929})
    said = _said(run, checkpoint_id, alice)
    assert [text for text in said if "kept-4929" in text or "49294929" in text] == []
    assert [at for at, text in enumerate(said) if UNKNOWN in html.unescape(text)] == [0, 3, 5, 6, 7]
    found = [Caller(alice).get("runs", search=words).json()["items"] for words in ("4929", "kept", run.pk, "nobody")]
    assert [[one["id"] for one in items] for items in found] == [[], [], [run.pk], [run.pk]]


def test_three_megabytes_are_no_page_of_three_megabytes(alice: User) -> None:
    run = make_run()
    big = {"text": "é" * 1_000_000, "list": [{"n": number, "words": "w" * 50} for number in range(20_000)]}
    checkpoint_id = seed(run, big)
    client = signed_in(alice)
    whole = client.get(page(run, checkpoint_id))
    assert len(whole.content) < 150_000
    shown = whole.content.decode()
    assert "Load the rest: 999400 characters" in shown and "Load the rest: 19960 more entries" in shown
    rest = client.get(
        page(run, checkpoint_id, "value"),
        {"at": '["values", "list"]', "begin": "40"},
        headers={"HX-Request": "true"},
    ).content.decode()
    assert ">40</span>" in rest and "19920 more entries" in rest
    whole_text = client.get(page(run, checkpoint_id, "value"), {"at": '["values", "text"]', "download": "1"})
    assert len(whole_text.content.decode()) == 1_000_000


@pytest.mark.parametrize("at", ["", "x", "[]x", '["nothing"]', '[["a"]]', '["values", -1]', "{}", "[" * 6000])
def test_a_path_that_leads_nowhere_is_told_so(alice: User, at: str) -> None:
    run = make_run()
    checkpoint_id = seed(run, {"list": [1]})
    assert signed_in(alice).get(page(run, checkpoint_id, "value"), {"at": at}).status_code == 404


def test_a_difference_is_against_the_parent_unless_another_is_named(alice: User) -> None:
    run = make_run()
    ids = [seed(run, {"n": 0, "words": ["a"]})]
    for number in (1, 2):
        ids.append(seed(run, {"n": number, "words": ["a"] * number}, number=number, parent=ids[-1]))
    caller = Caller(alice)
    path = f"runs/{run.pk}/checkpoints/{ids[2]}/diff"
    assert caller.get(path).json()["changes"][0] == {"path": "n", "kind": "changed", "before": 1, "after": 2}
    assert caller.get(path, against=ids[0]).json()["changes"][0]["before"] == 0
    first = caller.get(f"runs/{run.pk}/checkpoints/{ids[0]}/diff").json()
    assert first["against"] is None and {one["kind"] for one in first["changes"]} == {"added"}
    problem(caller.get(path, against="none"), 404)
    shown = signed_in(alice).get(page(run, ids[2], "difference"), {"against": ids[0]}).content.decode()
    assert "2 changes" in shown and ids[0] in shown


def test_steps_say_their_node_their_time_and_what_they_changed(world: FakeWorld, alice: User) -> None:
    run = make_run()
    asked = turns.take(turns.start(run), world)
    decide(asked.waiting_for[0])
    turns.take(turns.after(run, 2, *asked.waiting_for), world)
    lines = checkpoints_of(run.pk)
    assert all(line.took is not None for line in lines[:-1]) and lines[-1].took is None
    freeze = next(line for line in reversed(lines) if line.node == "freeze")
    assert freeze.changed and "frozen" in freeze.changed
    client = signed_in(alice)
    shown = client.get(reverse("orchestration:state", args=[run.pk])).content.decode()
    assert "of waiting" in shown and "then gate" in shown
    only = client.get(reverse("orchestration:state", args=[run.pk]), {"node": "plan"}).content.decode()
    assert only.count('id="step-') == sum(line.node == "plan" for line in lines)
    opened = client.get(page(run, freeze.checkpoint_id)).content.decode()
    assert 'rel="prev"' in opened
    assert 'rel="next"' in opened
    assert "Model" in opened


def test_the_graph_shows_the_way_that_was_taken(world: FakeWorld, alice: User) -> None:
    run = make_run()
    asked = turns.take(turns.start(run), world)
    run.refresh_from_db()
    found = shape.shape_of(run)
    assert found.origin == "run" and found.times["plan"] == 2
    assert found.stands["gate"] == "current" and found.stands["plan"] == "done"
    assert ("propose", "freeze") in found.taken and ("propose", "freeze") in found.edges
    assert found.stands.get(shape.END) is None
    shown = signed_in(alice).get(reverse("orchestration:state", args=[run.pk])).content.decode()
    assert "<svg" in shown and "ran 2 times" in shown and "runs or waits now" in shown and asked.waiting_for


def test_a_graph_of_many_nodes_is_drawn_when_asked(alice: User) -> None:
    names = [f"n{number}" for number in range(200)]
    edges = [f"n{number // 2} to n{number}" for number in range(1, 200)] + ["n199 to n3, perhaps"]
    run = make_run(pause={"code": {"nodes": names, "edges": edges}, "asked_in": {}})
    client = signed_in(alice)
    address = reverse("orchestration:state", args=[run.pk])
    assert '<svg class="wfg"' not in client.get(address).content.decode()
    assert '<svg class="wfg"' in client.get(address, {"draw": "1"}).content.decode()


def test_a_thread_without_checkpoints_has_a_page(alice: User) -> None:
    run = make_run()
    shown = signed_in(alice).get(reverse("orchestration:state", args=[run.pk])).content.decode()
    assert "No checkpoint here" in shown and "Nothing is known of it" in shown
    nothing = signed_in(alice).get(
        reverse("orchestration:state", args=[run.pk]), {"graph": "\x00", "node": "x", "before": "é"}
    )
    assert nothing.status_code == 200
