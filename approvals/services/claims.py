"""Claim an approval: a soft lock that tells the others "I am at it". It stands in nobody's way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q

from approvals.errors import AlreadyClaimed, AlreadyClosed, MayNotDecide, NoSuchApproval, NotTheirs
from approvals.models import Approval
from approvals.people.permissions import may_decide, visible_to
from approvals.record import audit
from approvals.record.closings import closing_of
from console import roles
from console.clock import DatabaseNow
from console.live.announce import announce

CLAIM_LASTS: Final = timedelta(minutes=30)  # after it was made or renewed
RENEWED_AFTER: Final = timedelta(minutes=1)  # a click before that is a second click


@dataclass(frozen=True)
class Locked:
    """An approval under its row's lock, and who holds it now by the database's clock."""

    approval: Approval
    holder: User | None
    is_recent: bool  # claimed or renewed a moment ago


def claim(*, approval_id: str, by: User) -> Approval:
    """Claim a pending approval, or renew one's own claim. A second click changes nothing.

    A claim lapses CLAIM_LASTS after it was made or renewed, by the database's clock. Raises NoSuchApproval,
    AlreadyClosed, MayNotDecide, and AlreadyClaimed while somebody else's claim lasts.
    """
    with transaction.atomic():
        held = _locked(by, approval_id)
        _check_pending(held.approval)
        if held.holder and held.holder != by:
            raise AlreadyClaimed(held.holder.username)
        _check_may_decide(by, held.approval)
        if held.holder is None or not held.is_recent:
            _hand(held.approval, by)
            _record(held.approval, by, "approval.claim_renewed" if held.holder else "approval.claimed", {})
    return held.approval


def release(*, approval_id: str, by: User) -> Approval:
    """Give a claim back: one's own, or as operator or admin anybody's. Nothing to give back changes nothing.

    Raises NoSuchApproval, and NotTheirs for somebody else's claim.
    """
    with transaction.atomic():
        held = _locked(by, approval_id)
        if held.holder is None:
            return held.approval
        if held.holder != by and not _may_move(by):
            raise NotTheirs(f"{held.holder.username} holds this; an operator or an admin can release it.")
        _hand(held.approval, None)
        _record(held.approval, by, "approval.released", {"from": held.holder.username})
    return held.approval


def reassign(*, approval_id: str, by: User, to: User) -> Approval:
    """Hand an approval to somebody who may decide it: by who holds it, by an operator or by an admin.

    Who holds it already gets it no second time. Raises NoSuchApproval, AlreadyClosed, NotTheirs, and MayNotDecide
    when the person may not decide it.
    """
    with transaction.atomic():
        held = _locked(by, approval_id)
        _check_pending(held.approval)
        if held.holder == to:
            return held.approval
        if held.holder != by and not _may_move(by):
            raise NotTheirs("Only who holds it, an operator or an admin can hand it to somebody.")
        _check_may_decide(to, held.approval)
        _hand(held.approval, to)
        body = {"from": held.holder.username if held.holder else None, "to": to.username}
        _record(held.approval, by, "approval.reassigned", body)
    return held.approval


def _locked(user: User, approval_id: str) -> Locked:
    lasts = ExpressionWrapper(Q(claimed_at__gt=DatabaseNow() - CLAIM_LASTS), output_field=BooleanField())
    recent = ExpressionWrapper(Q(claimed_at__gt=DatabaseNow() - RENEWED_AFTER), output_field=BooleanField())
    # The holder is not joined: after a wait for the lock, the joined row would be the one of before.
    rows = visible_to(user).select_for_update(no_key=True, of=("self",)).select_related("requested_by")
    approval = rows.annotate(lasts=lasts, recent=recent).filter(pk=approval_id).first()
    if approval is None:
        raise NoSuchApproval
    is_held = approval.is_open and approval.lasts
    return Locked(approval, approval.claimed_by if is_held else None, bool(approval.recent))


def _check_pending(approval: Approval) -> None:
    if not approval.is_open:
        raise AlreadyClosed(closing_of(approval))


def _check_may_decide(user: User, approval: Approval) -> None:
    permit = may_decide(user, approval)
    if not (permit.allowed and roles.may(user, "decide")):
        raise MayNotDecide(permit.rule, f"{user.username} may not decide this request, so it cannot be theirs.")


def _may_move(user: User) -> bool:
    return roles.has_role(user, "operator", "admin")


def _hand(approval: Approval, to: User | None) -> None:
    Approval.objects.filter(pk=approval.pk).update(claimed_by=to, claimed_at=DatabaseNow() if to else None)
    approval.claimed_by = to


def _record(approval: Approval, by: User, kind: str, body: dict[str, Any]) -> None:
    announce("inbox", f"approval:{approval.pk}")
    audit.record(actor=by.username, kind=kind, subject=approval.pk, body=body)
