"""What the verdict model expects of open requests: told and sorted by, and nothing that decides knows of it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from approvals.models import Approval, Decision, Outlook
from approvals.reading.listing import Filters, approvals_page
from approvals.reading.outlooks import surprise_of
from approvals.services import decide
from console.environment import PROJECT
from dataplane import versions
from dataplane.catalogue import VERDICT_MODEL
from dataplane.contents.trained import TrainedModel
from dataplane.contracts import RefreshOrder
from dataplane.embedding import embedder
from dataplane.flows.outlooks import Outlooks
from dataplane.flows.verdicts import VerdictColumns, VerdictNumbers
from dataplane.refreshes.claim import claim
from tests.approvals.conftest import answer, open_one

from .conftest import FLOW_RUN

__all__ = ["open_one"]  # a fixture

Open = Callable[..., Approval]


def publish_model(key: str, tool: str, *, chance_is_high: bool, embedded_with: str = "") -> None:
    """Publish a model that tells the same of every request: 5 or 95 in a hundred."""
    intercept = 2.944439 if chance_is_high else -2.944439
    layout = VerdictColumns([tool], ["high"], [])
    numbers = VerdictNumbers(layout, [0.0] * (256 + 2), intercept, -1.0, 0.0)
    made = TrainedModel("# Card", {"log_loss": 0.5}, [], numbers.as_json(), b"", [], embedded_with or embedder().name)
    with claim(VERDICT_MODEL, RefreshOrder(VERDICT_MODEL.name, key), flow_run_id=FLOW_RUN) as claimed:
        versions.publish(VERDICT_MODEL, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)


def note(approval: Approval, percent: int, *, version: int | None = None, model_version: int = 1) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT signalbox_note_outlook(%s, %s, %s, %s)",
            [approval.pk, version or approval.version, percent, model_version],
        )


@pytest.mark.usefixtures("database_url")
def test_open_requests_get_a_word_of_the_current_model_once(open_one: Open, alice: User) -> None:
    first, other = open_one(), open_one(tool="send_email")
    looking = Outlooks()
    assert looking.look() == 0, "there is no model yet"
    publish_model("k1", first.tool, chance_is_high=False)
    assert (looking.look(), looking.look()) == (1, 0)
    assert (Outlook.objects.get().approval_id, Outlook.objects.get().percent) == (first.pk, 5)
    assert not Outlook.objects.filter(approval=other).exists(), "of a tool that it was not trained on it says nothing"
    publish_model("k2", first.tool, chance_is_high=True)
    assert looking.look() == 1
    assert (Outlook.objects.get().percent, Outlook.objects.get().model_version) == (95, 2)
    decide(approval_id=first.pk, reviewer=alice, given=answer(first, "reject", note="No."))
    publish_model("k3", first.tool, chance_is_high=False, embedded_with="another")
    open_one()
    assert looking.look() == 0, "a decided request gets no word, and vectors of two models never meet"


@pytest.mark.usefixtures("database_url")
def test_only_surprise_is_told_and_the_unusual_can_come_first(open_one: Open, alice: User, client: Client) -> None:
    usual, unusual, unknown, edited = (open_one() for _ in range(4))
    note(usual, 90)
    note(unusual, 7)
    note(edited, 1)
    Approval.objects.filter(pk=edited.pk).update(version=2)
    edited.refresh_from_db()
    assert [surprise_of(one) is not None for one in (usual, unusual, unknown, edited)] == [False, True, False, False]

    client.force_login(alice)
    page = client.get(reverse("approvals:approval", args=[unusual.pk])).content.decode()
    assert "about 7 times in 100" in page and "verdict model, version 1" in page and "it decides nothing" in page
    assert reverse("dataplane:version", args=[VERDICT_MODEL.name, 1]) in page
    assert "verdict model" not in client.get(reverse("approvals:approval", args=[usual.pk])).content.decode()

    listed = [row.pk for row in approvals_page(alice, Filters(order="unusual")).rows]
    assert listed[:2] == [unusual.pk, usual.pk] and set(listed[2:]) == {unknown.pk, edited.pk}
    paged, cursor = list[str](), ""
    while True:
        found = approvals_page(alice, Filters(order="unusual"), cursor=cursor, limit=1, repeats_once=True)
        paged += [row.pk for row in found.rows]
        if not (cursor := found.next_cursor or ""):
            break
    assert paged == [pk for pk in listed if pk in paged] and paged[0] == unusual.pk
    assert client.get(reverse("approvals:inbox") + "?order=unusual").status_code == 200


@pytest.mark.usefixtures("database_url")
def test_no_terms_no_right_and_no_decision_depend_on_it(open_one: Open, alice: User) -> None:
    """Two requests that differ in nothing but the model's word are the same in everything that decides."""

    def facts(approval: Approval) -> dict[str, Any]:
        approval.refresh_from_db()
        kept = {field.attname: getattr(approval, field.attname) for field in Approval._meta.concrete_fields}
        own = ("id", "external_id", "run_id", "interrupt_id", "opened_at", "due_at", "ladder", "search_words")
        return {name: value for name, value in kept.items() if name not in (*own, "checkpoint_id")}

    hopeless, sure = open_one(), open_one()
    before = facts(hopeless), facts(sure)
    note(hopeless, 0)
    note(sure, 100)
    assert (facts(hopeless), facts(sure)) == before and before[0] == before[1]
    for approval in (hopeless, sure):
        decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    assert list(Decision.objects.values_list("verdict", "source")) == [("approve", "")] * 2
    assert facts(hopeless)["status"] == facts(sure)["status"] == Approval.Status.DECIDED


def test_nothing_that_decides_knows_the_word() -> None:
    """Policies, permissions, proposals, the record and every service: no name in their code is of an outlook."""
    knowing = set()
    for folder in ("policies", "people", "proposal", "record", "services", "api"):
        for path in (PROJECT / "approvals" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [getattr(node, name, "") for name in ("id", "attr", "name", "module", "arg", "value")]
                if any("outlook" in name.lower() or "surprise" in name.lower() for name in names if type(name) is str):
                    knowing.add(path.name)
    assert knowing == set()
