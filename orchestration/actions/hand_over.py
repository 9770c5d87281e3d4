"""Hand over: what the run waits for goes to a person who may decide it, or now to whom the policy escalates.

Nobody is asked whom the policy does not name: an operator moves a request along, and gives no right to decide.
"""

from __future__ import annotations

from typing import Annotated

from django.contrib.auth.models import User
from pydantic import Field, model_validator

from approvals import services as approvals
from approvals.models import Approval
from approvals.people.permissions import may_decide
from console import roles
from orchestration.actions import facts
from orchestration.actions.base import Action, Options, Preview, Wish
from orchestration.errors import ActionRefused
from orchestration.models import Run


class HandOver(Options):
    """To whom: exactly one of these."""

    to: Annotated[str, Field(max_length=150, title="A person", description="The user name of one who may decide")] = ""
    escalate: Annotated[bool, Field(title="Ask now whom the policy escalates to")] = False

    @model_validator(mode="after")
    def _one_of_them(self) -> HandOver:
        if bool(self.to) == self.escalate:
            raise ValueError("Say to whom: name a person, or escalate, and only one of them.")
        return self


def preview(run: Run, options: HandOver) -> Preview:
    facts.check_open(run)
    moved, kept = _sorted(run, options)
    whom = options.to or "whom the policy escalates to"
    warnings = [f"“{one.summary}” goes to {whom}." for one in moved]
    warnings += [f"“{one.summary}” stays where it is: {why}" for one, why in kept]
    held = [[one.pk, one.claimed_by_id, one.claimed_at and one.claimed_at.isoformat()] for one in moved]
    return Preview(warnings=warnings, depends_on=(options.to, held))


def _sorted(run: Run, options: HandOver) -> tuple[list[Approval], list[tuple[Approval, str]]]:
    """Return what would be handed over, and what would not with the reason. Raises ActionRefused when nothing would."""
    rows = Approval.objects.filter(run_id=run.pk, status=Approval.Status.PENDING).select_related("requested_by")
    waiting = list(rows.order_by("opened_at", "pk"))
    if not waiting:
        raise ActionRefused("The run waits for nobody: no request of it is open.")
    moved, kept = [], []
    person = _person(options.to) if options.to else None
    for approval in waiting:
        why = _why_not(approval, person)
        if why:
            kept.append((approval, why))
        else:
            moved.append(approval)
    if not moved:
        raise ActionRefused(f"Nothing can be handed over. {kept[0][1]}")
    return moved, kept


def _person(name: str) -> User:
    person = User.objects.filter(username=name, is_active=True).first()
    if person is None:
        raise ActionRefused(f"There is no active account {name}.")
    return person


def _why_not(approval: Approval, person: User | None) -> str:
    """Return why a request cannot go to the person, or to whom the policy escalates, "" when it can."""
    if person is None:
        further = set(approval.given_terms.escalate_to) - set(approval.audience)
        return "" if further else "The policy names nobody further for it."
    permit = may_decide(person, approval)
    if permit.allowed and roles.may(person, "decide"):
        return ""
    return f"{person.username} may not decide it."


def do(run: Run, wish: Wish) -> None:
    options: HandOver = wish.options
    moved, _ = _sorted(run, options)
    by = User.objects.get(username=wish.by)
    approvals.hold_all([one.pk for one in moved])
    for approval in moved:
        if options.to:
            approvals.reassign(approval_id=approval.pk, by=by, to=_person(options.to))
        else:
            approvals.escalate_now(approval_id=approval.pk, actor=wish.by)


ACTION = Action(
    name="hand_over",
    title="Hand over what this run waits for",
    button="Hand it over",
    icon="user-plus",
    explains="What waits for a decision goes to a person who may make it, or at once to whom the policy escalates.",
    said="It is handed over.",
    kind="run.handed_over",
    preview=preview,
    do=do,
    options=HandOver,
    is_grave=False,
    may_be_repeated=True,
    is_offered=lambda run: run.status in (Run.Status.WAITING, Run.Status.PAUSED) and not run.ending,
)
