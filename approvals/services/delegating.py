"""Let somebody decide in one's place for a while."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q

from approvals.errors import InvalidChange, NotTheirs
from approvals.models import Delegation
from approvals.people.permissions import may_confirm
from approvals.people.persons import persons_of
from approvals.record import audit
from approvals.services.reminders import tell_principal
from console import roles
from console.clock import DatabaseNow, database_now
from console.live.announce import announce
from console.text.stored import text_fault

LONGEST: Final = timedelta(days=366)
REASON_LIMIT: Final = 300  # characters


def delegate(*, principal: User, to: User, starts_at: datetime, ends_at: datetime, reason: str, by: User) -> Delegation:
    """Let `to` decide what `principal` may, from `starts_at` until just before `ends_at` (aware), open requests too.

    People delegate for themselves, admins for others as well, though never to themselves: it then holds once the
    principal or a second admin has confirmed it, and the principal is told by mail. Windows may overlap. The same
    window again is the same delegation. What somebody decides for others cannot be handed on. Raises NotTheirs, and
    InvalidChange for a window that is no window, a reason that is too long, oneself, and for who has no active account
    or may not decide.
    """
    if by != principal and not roles.has_role(by, "admin"):
        raise NotTheirs("You can hand on your own decisions only; an admin can do it for others.")
    _check_people(principal, to, by)
    if fault := text_fault(reason.strip(), REASON_LIMIT):
        raise InvalidChange("reason", fault)
    with transaction.atomic():
        _check_window(starts_at, ends_at, database_now())
        # A second click waits for the first; NO KEY, for a decision of theirs refers to the row when it commits.
        User.objects.select_for_update(no_key=True).get(pk=principal.pk)
        window = Q(principal=principal, delegate=to, starts_at=starts_at, ends_at=ends_at, revoked_at=None)
        known = Delegation.objects.filter(window).first()
        if known is not None:
            return known
        made = Delegation.objects.create(
            principal=principal,
            delegate=to,
            starts_at=starts_at,
            ends_at=ends_at,
            reason=reason.strip(),
            made_by=by,
        )
        announce("inbox")
        _record(made, by, "delegation.made")
        if not made.is_confirmed:
            tell_principal(made)
    return made


def confirm_delegation(*, delegation_id: int, by: User) -> Delegation:
    """Let a delegation hold that an admin made for somebody else. A second click changes nothing.

    Its principal may, or an admin who is a person besides its maker and whoever stands in. Raises NotTheirs, also
    for what is not there, and InvalidChange when it has ended.
    """
    with transaction.atomic():
        rows = Delegation.objects.select_for_update(of=("self",)).select_related("principal", "delegate", "made_by")
        delegation = rows.filter(pk=delegation_id).first()
        persons = persons_of([by, delegation.made_by, delegation.delegate]) if delegation else {}
        if delegation is None or not may_confirm(delegation, by, persons):
            raise NotTheirs("Whom it is for can confirm it, or an admin who has neither made it nor stands in.")
        if delegation.is_confirmed:
            return delegation
        open_ones = Delegation.objects.filter(pk=delegation.pk, revoked_at=None, ends_at__gt=DatabaseNow())
        if not open_ones.update(confirmed_by=by, confirmed_at=DatabaseNow()):
            raise InvalidChange("ends_at", "It has ended, so there is nothing to confirm.")
        delegation.confirmed_by = by
        announce("inbox")
        _record(delegation, by, "delegation.confirmed")
        if by != delegation.principal:
            tell_principal(delegation)
    return delegation


def revoke_delegation(*, delegation_id: int, by: User) -> Delegation:
    """End a delegation now; one that has ended or was revoked stays as it is.

    Whom it stands for may, who stands in may, and admins may. Raises NotTheirs, also for what is not there.
    """
    with transaction.atomic():
        rows = Delegation.objects.select_for_update(of=("self",)).select_related("principal", "delegate")
        delegation = rows.filter(pk=delegation_id).first()
        if delegation is None or (
            by not in (delegation.principal, delegation.delegate) and not roles.has_role(by, "admin")
        ):
            raise NotTheirs("There is no such delegation of yours.")
        if Delegation.objects.filter(pk=delegation.pk, revoked_at=None, ends_at__gt=DatabaseNow()).update(
            revoked_at=DatabaseNow()
        ):
            announce("inbox")
            _record(delegation, by, "delegation.revoked")
    return delegation


def _check_people(principal: User, to: User, by: User) -> None:
    persons = persons_of([principal, to, by])
    if by != principal and persons[by.pk] == persons[to.pk]:
        raise InvalidChange("to", "Nobody makes themselves somebody's stand-in: they can, or another admin.")
    if persons[principal.pk] == persons[to.pk]:
        raise InvalidChange("to", "Choose somebody else: nobody stands in for themselves.")
    if not to.is_active:
        raise InvalidChange("to", f"The account {to.username} is disabled.")
    if not roles.may(to, "decide"):
        raise InvalidChange("to", f"{to.username} may not decide anything, so cannot stand in.")


def _check_window(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    if ends_at <= starts_at:
        raise InvalidChange("ends_at", "It has to end after it begins.")
    if ends_at <= now:
        raise InvalidChange("ends_at", "That time has passed already.")
    if ends_at - starts_at > LONGEST:
        raise InvalidChange("ends_at", f"At most {LONGEST.days} days; make another one later.")


def _record(made: Delegation, by: User, kind: str) -> None:
    body = {
        "principal": made.principal.username,
        "delegate": made.delegate.username,
        "starts_at": made.starts_at.isoformat(),
        "ends_at": made.ends_at.isoformat(),
        "made_by": made.made_by.username,
        "holds": made.is_confirmed,
    }
    audit.record(actor=by.username, kind=kind, subject=f"delegation:{made.pk}", body=body)
