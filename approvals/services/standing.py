"""Approve in advance what is exactly like a request that was read: counted, expiring, revocable.

A use is its maker's one vote, no more: it stands below every rule that denies, and is not taken where the terms want
a person at the screen. Who takes the lock on the record's chain and on a standing approval takes the chain's first,
because a turn opens several approvals in one transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from approvals.errors import InvalidChange, MayNotDecide, NoSuchApproval, NotTheirs, StaleVersion
from approvals.models import Approval, Decision, Risk, StandingApproval, Verdict
from approvals.people import standing_conditions
from approvals.people.permissions import (
    STANDING,
    agreeing_persons,
    may_decide,
    may_still_decide,
    visible_to,
    wants_somebody,
)
from approvals.people.persons import persons_of
from approvals.record import audit
from approvals.services.closing import write_decision
from console import roles
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.text.stored import text_fault

LONGEST: Final = timedelta(days=30)
SAME_END: Final = timedelta(minutes=5)  # a second click asks for so many days from a later moment
MOST_USES: Final = 1000
REASON_LIMIT: Final = 500  # characters


_IN_FORCE = Q(revoked_at=None, expires_at__gt=DatabaseNow(), uses__lt=F("uses_at_most"))


def make_standing(
    *,
    approval_id: str,
    digest: str,
    by: User,
    given: list[standing_conditions.Condition],
    reason: str,
    uses_at_most: int,
    expires_at: datetime,
) -> StandingApproval:
    """Approve in advance what meets the conditions, made from a request that waits or was approved.

    The request itself stays as it is. The same again from the same request, with an end within minutes of the first
    one, is the same standing approval while that is in force. `digest`: of what was shown. `given`: see
    `approvals.people.standing_conditions`; every argument is named.
    Raises NoSuchApproval, StaleVersion, MayNotDecide when the person may not approve the request in their own right,
    NotTheirs when nothing like it can be approved in advance, InvalidChange for what was typed, InvalidCondition when
    it is about an argument.
    """
    _check_typed(reason, uses_at_most)
    with transaction.atomic():
        rows = visible_to(by).select_for_update(no_key=True, of=("self",)).select_related("requested_by")
        approval = rows.filter(pk=approval_id).first()
        if approval is None:
            raise NoSuchApproval
        if approval.digest != digest:
            raise StaleVersion(approval.version)
        why_not = refusal_to_make(by, approval)
        if why_not:
            raise why_not
        now = database_now()
        if not now < expires_at <= now + LONGEST + timedelta(minutes=5):  # the form is filled in for a while
            raise InvalidChange("expires_at", f"It ends at some time in the next {LONGEST.days} days.")
        arguments = approval.arguments
        standing_conditions.check(given, arguments)
        known = StandingApproval.objects.filter(
            _IN_FORCE,
            made_from=approval,
            made_by=by,
            conditions=given,
            reason=reason.strip(),
            uses_at_most=uses_at_most,
            expires_at__range=(expires_at - SAME_END, expires_at + SAME_END),
        ).first()
        if known is not None:
            return known
        made = StandingApproval.objects.create(
            agent=approval.agent,
            tool=approval.tool,
            conditions=given,
            reason=reason.strip(),
            made_from=approval,
            made_by=by,
            expires_at=expires_at,
            uses_at_most=uses_at_most,
        )
        announce(f"approval:{approval.pk}")
        body = {
            "made_from": approval.pk,
            "agent": made.agent,
            "tool": made.tool,
            "conditions": [{"path": one["path"], "rule": standing_conditions.in_words(one)} for one in given],
            "uses_at_most": uses_at_most,
            "expires_at": expires_at.isoformat(),
        }
        audit.record(actor=by.username, kind="standing.made", subject=made.pk, body=body)
    return made


def revoke_standing(*, standing_id: str, by: User) -> StandingApproval:
    """Take a standing approval back: whoever made it, and admins. It counts for nothing that has not been started.

    A second call changes nothing. Raises NotTheirs, also for what is not there.
    """
    with transaction.atomic():
        audit.hold_chain()
        found = StandingApproval.objects.select_for_update(of=("self",)).filter(pk=standing_id).first()
        if found is None or not (found.made_by_id == by.pk or roles.has_role(by, "admin")):
            raise NotTheirs("Who made it can take it back, and an admin can.")
        if found.revoked_at is None:
            StandingApproval.objects.filter(pk=found.pk).update(revoked_at=DatabaseNow(), revoked_by=by)
            announce("inbox")
            body = {"tool": found.tool, "uses": found.uses}
            audit.record(actor=by.username, kind="standing.revoked", subject=found.pk, body=body)
    return found


def refusal_to_make(by: User, approval: Approval) -> Exception | None:
    """Return why nothing can be approved in advance from this request by this person, `None` when it can."""
    if approval.kind != Approval.Kind.ACTION or not approval.tool_is_known or Verdict.APPROVE not in approval.verdicts:
        return NotTheirs("Requests like this one are decided one by one.")
    if not _terms_allow(approval):
        return NotTheirs("This is high risk, or needs a person at the screen: it cannot be approved in advance.")
    if approval.status == Approval.Status.DECIDED:
        last = approval.decisions.order_by("-number").values_list("verdict", flat=True).first()
        if last not in (Verdict.APPROVE, Verdict.EDIT):
            return NotTheirs("It was not approved, so nothing like it is approved in advance.")
    elif not approval.is_open:
        return NotTheirs("It was never approved, so nothing like it is approved in advance.")
    permit = may_still_decide(by, None, approval)
    if not (permit.allowed and roles.may(by, "decide")):
        return MayNotDecide(permit.rule, permit.sentence)
    return None


def fitting_standing(approval: Approval) -> list[str]:
    """Return the standing approvals that cover an approval which is being opened, for `use_standing`. One query."""
    if not _may_be_used(approval):
        return []
    arguments = approval.arguments
    return [one.pk for one in _offered(approval) if standing_conditions.cover(one.conditions, arguments)]


def use_standing(approval: Approval, fitting: list[str]) -> Decision | None:
    """Vote for an approval that was just opened by the standing approvals that cover it; return the last vote.

    Part of the opening transaction. `fitting`: those that `fitting_standing` had found, asked before the record's chain
    was held, which keeps everybody waiting. Each use is counted under the standing approval's row lock, so that no
    more are taken than were given. Whatever does not fit leaves the approval to people.
    """
    if not fitting or not _may_be_used(approval):
        return None
    audit.hold_chain()
    decision = None
    for standing in _offered(approval).filter(pk__in=fitting).select_for_update(of=("self",)):
        if not _is_makers_right(standing.made_by, approval):
            continue
        decision = _vote(approval, standing)
        if approval.status == Approval.Status.DECIDED:
            break
    return decision


def _offered(approval: Approval):  # type: ignore[no-untyped-def]  # a queryset, annotated by Django
    return (
        StandingApproval.objects.filter(
            _IN_FORCE,
            agent=approval.agent,
            tool=approval.tool,
            made_from__source=approval.source,
            made_from__is_seeded=False,
            made_by__is_active=True,
        )
        .select_related("made_by")
        .order_by("pk")
    )


def _vote(approval: Approval, standing: StandingApproval) -> Decision:
    StandingApproval.objects.filter(pk=standing.pk).update(uses=F("uses") + 1)
    decision = Decision(
        approval=approval,
        by=standing.made_by,
        source=f"{STANDING}{standing.pk}",
        verdict=Verdict.APPROVE,
        note=f"Approved in advance: {standing.reason}"[:4000],
        version=approval.version,
        digest=approval.digest,
        for_version=approval.version,
        for_digest=approval.digest,
        channel="standing",
        body_digest="",
    )
    before = approval.decisions.select_related("by", "on_behalf_of")
    closes = len(agreeing_persons(approval, decisions=[*before, decision])) >= approval.needed
    body = {"approval": approval.pk, "use": standing.uses + 1, "uses_at_most": standing.uses_at_most}
    used = partial(audit.record, actor="policy", kind="standing.used", subject=standing.pk, body=body)
    write_decision(approval, decision, standing.made_by.username, closes=closes, record_first=used)
    return decision


def _may_be_used(approval: Approval) -> bool:
    is_open = approval.is_open and not approval.is_seeded
    is_plain = approval.kind == Approval.Kind.ACTION and approval.tool_is_known
    return is_open and is_plain and Verdict.APPROVE in approval.verdicts and _terms_allow(approval)


def _terms_allow(approval: Approval) -> bool:
    """A recent sign-in and a least time of reading want somebody at the screen; high risk wants them every time."""
    terms = approval.given_terms
    return terms.outcome == "ask" and not wants_somebody(terms) and approval.risk != Risk.HIGH


def _is_makers_right(maker: User, approval: Approval) -> bool:
    """Ask as if the maker clicked now, in their own right; and never for what they have asked for themselves."""
    permit = may_decide(maker, approval)
    if not permit.allowed or permit.on_behalf_of is not None or not roles.may(maker, "decide"):
        return False
    if approval.requested_by is None:
        return True
    persons = persons_of([maker, approval.requested_by])
    return persons[maker.pk] != persons[approval.requested_by.pk]


def _check_typed(reason: str, uses_at_most: int) -> None:
    if not reason.strip():
        raise InvalidChange("reason", "Say why this needs no reading each time; the others see it.")
    if fault := text_fault(reason, REASON_LIMIT):
        raise InvalidChange("reason", fault)
    if not 1 <= uses_at_most <= MOST_USES:
        raise InvalidChange("uses_at_most", f"Between 1 and {MOST_USES:,} times.")
