"""Evaluation sets: of what people decided, released tools only, without personal data, split by run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from approvals.models import Approval
from approvals.services import decide
from dataplane import selectors, versions
from dataplane.catalogue import EVALUATION_SET
from dataplane.contents.records import Records
from dataplane.contracts import RefreshOrder
from dataplane.errors import QuestionInvalid, SourceInvalid
from dataplane.flows.decisions import decided_by_people
from dataplane.flows.evaluating import Decided, cases_of, splits_of, without_personal, without_personal_text
from dataplane.refreshes.claim import claim
from tests.approvals.conftest import answer, open_one

from .conftest import FLOW_RUN

__all__ = ["open_one"]  # a fixture


ARGUMENTS = {"order_id": "8801", "amount": "10.00", "email": "a@b.c"}


def decided(**changes: Any) -> Decided:
    whole: dict[str, Any] = {
        "approval_id": "apr_1",
        "run_id": "run_1",
        "agent": "support",
        "tool": "refund",
        "risk": "high",
        "summary": "Pay 16 EUR back to ada@example.org",
        "agent_words": "Call +49 170 1234567 first.",
        "proposed": json.dumps(
            {"tool": "refund", "arguments": {"order_id": "8801", "amount": "16.00", "email": "a@b.c"}}
        ),
        "proposed_digest": "0" * 64,
        "dataset_versions": [{"dataset": "handbook", "version": 1}],
        "verdict": "edit",
        "note": "16 is too much, says bob@example.org",
        "edited_arguments": ARGUMENTS,
        "answer": None,
        "decided_at": "2026-11-01T00:00:00+00:00",
    }
    return Decided(**(whole | changes))


def test_a_case_says_what_was_proposed_what_people_made_of_it_and_where_it_is_from() -> None:
    (case,) = cases_of([decided()])
    body = dict(case.body)
    assert case.name == "apr_1"
    assert body["arguments"] == {"order_id": "8801", "amount": "16.00", "email": "<personal>"}
    assert body["changes"] == [{"path": "amount", "before": '"16.00"', "after": '"10.00"'}]
    assert (body["summary"], body["agent_words"]) == (
        "Pay 16 EUR back to <e-mail address>",
        "Call <phone number> first.",
    )
    assert body["note"] == "16 is too much, says <e-mail address>"
    assert body["provenance"]["approval"] == "apr_1" and body["provenance"]["dataset_versions"][0]["version"] == 1
    told = json.dumps(body)
    for secret in ("ada@", "bob@", "a@b.c", "170"):
        assert secret not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN <account number>, please"),
        ("card 4111 1111 1111 1111", "card <card number>"),
        ("0049 30 1234567", "<phone number>"),
        ("order 8801 of 2026-11-24, 1,234.56 EUR", "order 8801 of 2026-11-24, 1,234.56 EUR"),
        ("first.last+tag@sub.example.co.uk!", "<e-mail address>!"),
    ],
)
def test_personal_data_is_replaced_by_its_kind_and_nothing_else_is(text: str, told: str) -> None:
    assert without_personal_text(text) == told


def test_what_is_named_after_a_person_is_replaced_as_a_whole_at_any_depth() -> None:
    given = {
        "customer": {"first": "Ada", "age": 36},
        "total": 3,
        "lines": [{"ship_to_address": ["A", ""], "sku": "S1"}],
    }
    assert without_personal(given) == {
        "customer": {"first": "<personal>", "age": 36},
        "total": 3,
        "lines": [{"ship_to_address": ["<personal>", ""], "sku": "S1"}],
    }


@pytest.mark.parametrize(
    "name",
    [
        *("customer_name", "customerName", "firstName", "fullName", "shippingAddress", "shipTo", "CustomerName"),
        *("recipients", "emails", "e-mail", "ccEMail", "phoneNumbers", "addresses", "address2", "address_line1"),
        *("Ship To", "billing.street", "username", "IBANs", "people", "birthdays"),
    ],
)
def test_an_argument_about_a_person_is_known_however_its_name_is_written(name: str) -> None:
    assert without_personal({"order": {name: "Jane Doe"}}) == {"order": {name: "<personal>"}}


@pytest.mark.parametrize("name", ["total", "topic", "account", "accessLevel", "stock", "orderStatus", "mobility"])
def test_what_only_holds_the_letters_of_such_a_name_is_kept(name: str) -> None:
    assert without_personal({name: "as it is"}) == {name: "as it is"}


@pytest.mark.parametrize("seed", range(20))
def test_no_run_and_no_proposal_is_in_two_splits(seed: int) -> None:
    chance = random.Random(seed)
    pairs = [(f"run {chance.randint(1, 60)}", f"digest {chance.randint(1, 150)}") for _ in range(120)]
    splits = splits_of(pairs)
    by_digest: dict[str, set[str]] = {}
    for run, digest in pairs:
        by_digest.setdefault(digest, set()).add(splits[run])
    assert all(len(found) == 1 for found in by_digest.values())
    assert splits_of(list(reversed(pairs))) == splits, "whatever the order"


def test_about_seven_in_ten_are_to_train_on() -> None:
    splits = list(splits_of([(f"run {number}", f"{number}") for number in range(1000)]).values())
    assert 650 < splits.count("train") < 750 and splits.count("test") > 100 and splits.count("validation") > 100


@pytest.mark.usefixtures("database_url")
def test_only_what_people_decided_about_released_tools_is_read_and_published(
    open_one: Callable[..., Approval], alice: User
) -> None:
    approval, still_open = open_one(), open_one()
    decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "reject", note="Not this one."))
    (found,) = decided_by_people([approval.tool])
    assert (found.approval_id, found.verdict, found.note) == (approval.pk, "reject", "Not this one.")
    assert json.loads(found.proposed)["tool"] == approval.tool and found.approval_id != still_open.pk
    for tools in ([], ["another_tool"]):
        with pytest.raises(SourceInvalid):
            decided_by_people(tools)

    with claim(EVALUATION_SET, RefreshOrder(EVALUATION_SET.name, "k"), flow_run_id=FLOW_RUN) as claimed:
        made = Records(cases_of([found]))
        versions.publish(EVALUATION_SET, made, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)
    (read,) = selectors.read(EVALUATION_SET.name, {"verdict": "reject"}).items
    assert (read["name"], read["note"]) == (approval.pk, "Not this one.")
    assert selectors.read(EVALUATION_SET.name, {"verdict": "approve"}).items == []
    with pytest.raises(QuestionInvalid):
        selectors.read(EVALUATION_SET.name, {"note": "x"})
    shown = selectors.shown(selectors.version(EVALUATION_SET.name, 1))
    assert shown.items[0][:3] == [approval.pk, approval.tool, "reject"]
    with pytest.raises(Exception, match="Cannot update or delete"), connection.cursor() as cursor:
        cursor.execute("DELETE FROM dataplane_record")
