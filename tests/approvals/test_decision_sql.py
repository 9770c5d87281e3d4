"""The hand-written statements of a decision against the tables that Django makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models, transaction

from approvals.models import Approval, AuditEvent, Decision, ReceiptStep
from approvals.people.permissions import PeopleAround, agreeing_persons, may_decide
from approvals.people.persons import persons_of
from approvals.record.audit import ENTRY_COLUMNS
from approvals.services import decide, decision_sql
from approvals.services.decision_sql import DECISION_COLUMNS, RECEIPT_COLUMNS
from console import outbox, roles
from console.models import OutboxEntry
from tests.approvals.conftest import REFUND, answer

Opener = Callable[..., Approval]

_OUTBOX = tuple(re.search(r"\((.*)\)", outbox.INSERT)[1].split(", "))  # type: ignore[index]
#: what a statement writes, and what it leaves to the database
WRITTEN: list[tuple[type[models.Model], tuple[str, ...], set[str]]] = [
    (Decision, (*DECISION_COLUMNS, "at"), set()),
    (ReceiptStep, RECEIPT_COLUMNS, {"id"}),
    (OutboxEntry, _OUTBOX, {"id", "created_at", "due_at", "delivered_at"}),
    (AuditEvent, ENTRY_COLUMNS, {"seq"}),
]


@pytest.mark.parametrize(("model", "written", "left"), WRITTEN)
def test_a_column_is_written_by_hand_or_left_to_the_database_on_purpose(
    model: type[models.Model], written: tuple[str, ...], left: set[str], db: None
) -> None:
    assert {*written} | left == {field.column for field in model._meta.concrete_fields}
    assert len(written) == len({*written}) and not {*written} & left
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND table_schema = 'public'"
            " AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'",
            [model._meta.db_table],
        )
        needed = {row[0] for row in cursor.fetchall()}
    assert needed and needed <= {*written}


def _values(row: models.Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_a_held_approval_is_what_django_reads(open_one: Opener, olga: User) -> None:
    opened = open_one(
        requested_by=olga,
        agent_owners=("alice",),
        dataset_versions=[{"dataset": "handbook", "version": 3}],
        arguments=REFUND | {"note": "ünï %s code"},
        answer_schema={"type": "object"},
    )
    with transaction.atomic():
        held = decision_sql.hold(opened.pk)
        assert held is not None and not held.is_late and decision_sql.hold("apr_none") is None
        assert _values(held.approval) == _values(Approval.objects.get(pk=opened.pk))


def _as_django_reads(approval: Approval, user: User) -> PeopleAround:
    decisions = list(approval.decisions.select_related("by", "on_behalf_of").order_by("number"))
    owners = list(User.objects.filter(username__in=approval.agent_owners))
    return PeopleAround(decisions, owners, {})


def test_votes_and_people_are_what_django_reads(
    open_one: Opener, terms: Callable[..., None], alice: User, ada: User, olga: User
) -> None:
    terms(needed=3, groups=("reviewer", "admin"), four_eyes=("requester", "editor", "owner"))
    opened = open_one(requested_by=olga, agent_owners=("bob", "olga"))
    decide(approval_id=opened.pk, reviewer=alice, given=answer(opened, note="so “it” is"))
    opened.refresh_from_db()
    decide(
        approval_id=opened.pk,
        reviewer=ada,
        given=answer(opened, "edit", edited_arguments=REFUND | {"amount": "12.00"}),
    )
    with transaction.atomic():
        held = decision_sql.hold(opened.pk)
        assert held is not None
        asking, around = decision_sql.people_around(held.approval, alice)
        read = _as_django_reads(Approval.objects.get(pk=opened.pk), alice)
        assert asking == alice and held.approval.requested_by == olga
        assert [_values(vote) for vote in around.decisions] == [_values(vote) for vote in read.decisions]
        assert {user.pk for user in around.owners} == {user.pk for user in read.owners}
        for vote in around.decisions:
            assert vote.by is not None
            again = User.objects.get(pk=vote.by.pk)
            assert (vote.by.username, vote.by.email, vote.by.is_active) == (
                again.username,
                again.email,
                again.is_active,
            )
            assert roles.roles_of(vote.by) == roles.roles_of(again)
        people = [alice, ada, olga]
        assert persons_of(people, around.links) == persons_of(people)
        assert agreeing_persons(held.approval, around=around) == agreeing_persons(held.approval)
        for user in people:
            assert may_decide(user, held.approval, around) == may_decide(user, held.approval)


def test_a_reviewer_who_lost_the_role_meanwhile_is_refused(open_one: Opener, alice: User, olga: User) -> None:
    opened = open_one(requested_by=olga)
    assert roles.may(alice, "decide")  # as the request has read it, and kept
    User.objects.get(pk=alice.pk).groups.clear()
    with transaction.atomic():
        asking, around = decision_sql.people_around(Approval.objects.get(pk=opened.pk), alice)
        assert not may_decide(asking, opened, around).allowed
