"""Comments: for the people, never for the agent, and never taken back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, transaction

from approvals import services
from approvals.errors import InvalidChange, NoSuchApproval
from approvals.models import Approval, AuditEvent, Comment
from approvals.reading import for_runs
from approvals.services import commenting
from tests.approvals.conftest import answer

Opener = Callable[..., Approval]


def test_a_comment_is_kept_recorded_and_not_said_twice(open_one: Opener, olga: User) -> None:
    approval = open_one()
    first = services.comment(approval_id=approval.pk, by=olga, text=" Who knows this order? ")
    assert services.comment(approval_id=approval.pk, by=olga, text="Who knows this order?") == first
    assert first.text == "Who knows this order?"
    (event,) = AuditEvent.objects.filter(kind="approval.commented")
    assert (event.actor, event.subject, event.body["comment"]) == ("olga", approval.pk, first.pk)
    assert "order" not in str(event.body), "the record holds digests, not words"


def test_the_same_words_later_are_another_comment(
    open_one: Opener, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = open_one()
    first = services.comment(approval_id=approval.pk, by=olga, text="ping")
    monkeypatch.setattr(commenting, "REPEATED_WITHIN", timedelta(0))
    assert services.comment(approval_id=approval.pk, by=olga, text="ping") != first


def test_the_same_words_of_somebody_else_are_another_comment(open_one: Opener, olga: User, alice: User) -> None:
    approval = open_one()
    said = [services.comment(approval_id=approval.pk, by=person, text="I agree.") for person in (olga, alice)]
    assert [one.by for one in said] == [olga, alice] and Comment.objects.count() == 2


@pytest.mark.parametrize("text", ["", " \n ", "x" * 4001, "a\x00b", "half \ud800"])
def test_what_cannot_be_kept_is_refused_in_words(open_one: Opener, alice: User, text: str) -> None:
    with pytest.raises(InvalidChange) as told:
        services.comment(approval_id=open_one().pk, by=alice, text=text)
    assert told.value.field == "text"
    assert str(told.value).endswith(".")
    assert not Comment.objects.exists()


def test_who_may_not_see_may_not_comment(open_one: Opener, eve: User) -> None:
    with pytest.raises(NoSuchApproval):
        services.comment(approval_id=open_one().pk, by=eve, text="hello")


def test_people_go_on_talking_after_the_decision_and_the_agent_hears_none_of_it(
    open_one: Opener, alice: User, bob: User
) -> None:
    approval = open_one()
    services.comment(approval_id=approval.pk, by=bob, text="before-the-decision")
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, note="fine"))
    services.comment(approval_id=approval.pk, by=bob, text="after-the-decision")
    assert approval.comments.count() == 2
    assert "the-decision" not in str(for_runs.settled([approval.pk]))
    authorised = services.authorise(approval_id=approval.pk, digest=approval.digest)
    assert "the-decision" not in str(authorised)


def test_a_comment_can_be_neither_changed_nor_removed(open_one: Opener, alice: User) -> None:
    said = services.comment(approval_id=open_one().pk, by=alice, text="so it was")
    for change in (lambda: Comment.objects.update(text="no"), said.delete):
        with pytest.raises(DatabaseError, match=r"Cannot (update|delete)"), transaction.atomic():
            change()
