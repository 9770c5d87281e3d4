"""What says which request it is cannot be changed away: at the page, at the API, alone or many times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from approvals import services
from approvals.errors import InvalidVerdict, MayNotDecide, NotAuthorised, StaleTerms
from approvals.models import Approval, Decision
from approvals.pages.request.card import card_for
from approvals.proposal import fixed
from approvals.reading import requests
from orchestration.agents.arguments import asked_schema, faults_of_tool
from orchestration.agents.support.tools import ISSUE_REFUND, SEND_EMAIL
from tests.api_caller import Caller, paths_of
from tests.approvals.conftest import REFUND, answer
from tests.approvals.test_edit_views import edit_address, hidden
from tests.approvals.test_request_api import BODY
from tests.page_client import signed_in, text

Opener = Callable[..., Approval]
SCHEMA = asked_schema(ISSUE_REFUND)


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ({}, []),
        ({fixed.KEYWORD: ["to", "cc", "to"]}, ["to", "cc"]),
        ({"properties": {"to": {"type": "string", fixed.KEYWORD: True}, "cc": {fixed.KEYWORD: False}}}, ["to"]),
        ({fixed.KEYWORD: ["a"], "properties": {"a": {fixed.KEYWORD: True}, "b": {fixed.KEYWORD: True}}}, ["a", "b"]),
        ([], []),
        ({fixed.KEYWORD: "to", "properties": []}, []),
    ],
)
def test_who_asks_marks_arguments_in_the_schema(schema: Any, names: list[str]) -> None:
    assert fixed.fixed_in(schema) == names


def test_the_shipped_tools_fix_what_says_which_request_it_is() -> None:
    assert fixed.fixed_in(SCHEMA) == ["order_id", "currency"]
    assert fixed.fixed_in(asked_schema(SEND_EMAIL)) == ["to"]


def test_a_mark_that_names_no_argument_is_told_to_the_author() -> None:
    from dataclasses import replace

    assert faults_of_tool(ISSUE_REFUND) == []
    assert "no argument “order”" in faults_of_tool(replace(ISSUE_REFUND, fixed=("order",)))[0]


@pytest.mark.parametrize(
    "changed", [{"order_id": "9999"}, {"currency": "USD"}, {"order_id": "9999", "amount": "4999.00"}]
)
def test_the_api_takes_no_change_of_a_fixed_argument(open_one: Opener, alice: User, changed: dict[str, str]) -> None:
    approval = open_one(arguments_schema=SCHEMA)
    body = {"verdict": "edit", "version": 1, "digest": approval.digest, "edited_arguments": REFUND | changed}
    told = Caller(alice).post(f"approvals/{approval.pk}/decision", body)
    assert paths_of(told) == [f"edited_arguments.{name}" for name in ("order_id", "currency") if name in changed]
    assert (Decision.objects.count(), Approval.objects.get(pk=approval.pk).version) == (0, 1)


def test_a_fixed_argument_cannot_be_left_out_or_added(open_one: Opener, alice: User) -> None:
    schema = {fixed.KEYWORD: ["to", "cc"]}
    approval = open_one(source="program", tool="mail", arguments={"to": "a", "text": "x"}, arguments_schema=schema)
    for changed in ({"text": "y"}, {"to": "a", "cc": "b", "text": "x"}, {"to": None, "text": "x"}, {"to": ["a"]}):
        with pytest.raises(InvalidVerdict, match="This is fixed"):
            given = answer(approval, "edit", edited_arguments=changed)
            services.decide(approval_id=approval.pk, reviewer=alice, given=given)


def test_the_page_shows_it_as_fixed_and_takes_no_change_of_it(open_one: Opener, alice: User) -> None:
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    page = text(client.get(edit_address(approval)))
    assert "Stays as it is" in page and '"8801"' in page.replace("&quot;", '"')
    assert 'name="arguments.order_id"' not in page and 'name="arguments.amount"' in page
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")} | {"check": "1"}
    forged = client.post(edit_address(approval), sent | {"arguments.order_id": "9999", "arguments.amount": "40.00"})
    assert forged.status_code == 422 and "This is fixed" in text(forged)
    based = sent | {"base": sent["base"].replace("8801", "9999"), "arguments.amount": "40.00"}
    assert client.post(edit_address(approval), based).status_code == 422
    good = client.post(edit_address(approval), sent | {"arguments.amount": "40.00"})
    assert good.status_code == 200 and "Refund 40.00 EUR to order 8801" in text(good)


def test_many_small_changes_by_several_people_do_not_get_there_either(open_one: Opener, alice: User, bob: User) -> None:
    approval = open_one(arguments_schema=SCHEMA)
    for person, amount in ((alice, "40.00"), (bob, "30.00")):
        approval.refresh_from_db()
        given = answer(approval, "edit", edited_arguments=REFUND | {"amount": amount})
        services.decide(approval_id=approval.pk, reviewer=person, given=given)
    approval.refresh_from_db()
    assert (approval.status, approval.version) == ("pending", 3), "both have changed it, so neither approves it"
    carol = User.objects.create(username="carol")
    carol.groups.add(Group.objects.get(name="reviewer"))
    with pytest.raises(InvalidVerdict, match="This is fixed"):
        given = answer(approval, "edit", edited_arguments=REFUND | {"order_id": "8802"})
        services.decide(approval_id=approval.pk, reviewer=carol, given=given)


def test_a_rule_may_let_it_and_then_everybody_is_told(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(may_change_fixed=True, four_eyes=("requester", "editor"))
    client, approval = signed_in(alice), open_one(arguments_schema=SCHEMA)
    page = text(client.get(edit_address(approval)))
    sent = {name: hidden(page, name) for name in ("version", "digest", "shown", "base")} | {"check": "1"}
    checked = text(client.post(edit_address(approval), sent | {"arguments.order_id": "9999"}))
    assert "This changes what the tool has fixed" in checked and "order_id" in checked
    given = answer(approval, "edit", edited_arguments=REFUND | {"order_id": "9999"})
    services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    shown = requests.whole_request(bob, approval.pk)
    assert card_for(bob, shown).changed_identity == ["order_id"]
    assert "Read it as another request" in text(signed_in(bob).get(f"/approvals/{approval.pk}/"))


def test_a_change_counts_no_more_once_no_rule_lets_it(open_one: Opener, terms: Any, alice: User, bob: User) -> None:
    terms(may_change_fixed=True)
    approval = open_one(arguments_schema=SCHEMA)
    given = answer(approval, "edit", edited_arguments=REFUND | {"order_id": "9999"})
    services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    approval.refresh_from_db()
    assert approval.status == "decided"
    terms(may_change_fixed=False)
    with pytest.raises(NotAuthorised, match="order_id: changed since it was proposed"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)
    terms(may_change_fixed=False, outcome="allow")
    with pytest.raises(NotAuthorised, match="order_id: changed since it was proposed"):
        services.authorise(approval_id=approval.pk, digest=approval.digest)
    terms(may_change_fixed=True)
    services.authorise(approval_id=approval.pk, digest=approval.digest)


def test_an_open_change_is_agreed_to_by_nobody_once_no_rule_lets_it(
    open_one: Opener, terms: Any, alice: User, bob: User
) -> None:
    terms(may_change_fixed=True, four_eyes=("requester", "editor"))
    approval = open_one(arguments_schema=SCHEMA)
    changed = REFUND | {"order_id": "9999"}
    given = answer(approval, "edit", edited_arguments=changed)
    services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    terms(may_change_fixed=False, four_eyes=("requester", "editor"))
    with pytest.raises(StaleTerms):
        services.decide(approval_id=approval.pk, reviewer=bob, given=shown(approval))
    other = shown(approval, "edit", edited_arguments=changed | {"amount": "1.00"})
    for given in (shown(approval), other):
        with pytest.raises(MayNotDecide) as told:
            services.decide(approval_id=approval.pk, reviewer=bob, given=given)
        assert told.value.rule == "fixed" and "nobody may" in told.value.sentence
    given = shown(approval, "reject", note="Ask for 9999 anew.")
    services.decide(approval_id=approval.pk, reviewer=bob, given=given)
    assert Approval.objects.get(pk=approval.pk).status == "decided"


def shown(approval: Approval, verdict: str = "approve", **given: Any) -> Any:
    approval.refresh_from_db()
    return answer(approval, verdict, **given)


def test_a_change_may_not_lead_under_a_rule_that_lets_it(open_one: Opener, terms: Any, alice: User) -> None:
    terms(by=lambda facts: {"may_change_fixed": facts.arguments["order_id"] == "9999"})
    approval = open_one(arguments_schema=SCHEMA)
    with pytest.raises(InvalidVerdict, match="This is fixed"):
        given = answer(approval, "edit", edited_arguments=REFUND | {"order_id": "9999"})
        services.decide(approval_id=approval.pk, reviewer=alice, given=given)


def test_nor_out_of_a_rule_that_lets_it(open_one: Opener, terms: Any, alice: User) -> None:
    terms(by=lambda facts: {"may_change_fixed": facts.arguments["order_id"] == "8801"})
    approval = open_one(arguments_schema=SCHEMA)
    with pytest.raises(InvalidVerdict, match="This is fixed"):
        given = answer(approval, "edit", edited_arguments=REFUND | {"order_id": "9999"})
        services.decide(approval_id=approval.pk, reviewer=alice, given=given)


@pytest.mark.parametrize(
    "mark", [{fixed.KEYWORD: "name"}, {fixed.KEYWORD: ["nmae"]}, {fixed.KEYWORD: [1]}, {fixed.KEYWORD: [""]}]
)
def test_a_programs_mark_that_protects_nothing_is_refused(mark: dict[str, Any], db: None) -> None:
    robot = User.objects.create_user("robot")
    robot.groups.add(Group.objects.get_or_create(name="service")[0])
    schema = {"type": "object", "properties": {"name": {"type": "string"}}} | mark
    told = Caller(robot).post("approvals", BODY | {"arguments_schema": schema})
    assert paths_of(told) == [f"arguments_schema.{fixed.KEYWORD}"]
    good = schema | {fixed.KEYWORD: ["name"]}
    assert Caller(robot).post("approvals", BODY | {"arguments_schema": good}).status_code == 201
