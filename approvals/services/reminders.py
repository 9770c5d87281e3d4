"""Mail to the people whom an approval waits for, when its ladder reminds or escalates, and to those who decided it
when its run ends before the decision took effect.

Who is told stands in the step's own audit entry, and one outbox entry for each of them in its transaction; the relay
sends them. A mail is written when it is sent, from what holds then. It only links to the page: nothing can be decided
by it, nor by whatever opens its link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet

from approvals.models import Approval, Decision, Delegation
from approvals.people.permissions import may_decide, open_windows
from console import outbox, ports, roles
from console.clock import DatabaseNow
from console.outbox import Kind
from console.text.visible import one_line

PEOPLE_AT_MOST: Final = 200
ENDED: Final = "ended"  # the steps of the mails to who had decided
SET_BACK: Final = "set_back"
_SUBJECT_LETTERS = 150
_WHY = {
    "remind": "It waits for a decision and has not been decided yet.",
    "escalate": "Nobody has decided it in time, so more people are asked now.",
}


@dataclass(frozen=True)
class Mail:
    """One mail, plain text; nothing in it hides, and its subject is one line."""

    to: str
    subject: str
    text: str


def tell(approval: Approval, step: str) -> list[str]:
    """Let everybody who may decide the approval now, and has an address, be told; return their user names.

    `step`: remind or escalate. Call it in the transaction that takes the step. At most PEOPLE_AT_MOST people; accounts
    with the same address get one mail.
    """
    told = _people(approval)
    for user in told:
        outbox.enqueue(
            kind=Kind.REMIND,
            subject=approval.pk,
            payload={"approval_id": approval.pk, "step": step, "user_id": user.pk},
        )
    return [user.username for user in told]


def tell_ended(approval_id: str, *, step: str = ENDED) -> list[str]:
    """Let everybody who decided the approval, and has an address, be told that its run has ended; return their names.

    `step`: SET_BACK where the run goes on from before it. Call it in the transaction that closes the run.
    """
    took_part = Decision.objects.filter(approval_id=approval_id, by__isnull=False)
    people = User.objects.filter(pk__in=took_part.values("by"), is_active=True).order_by("username")
    for user in people:
        if user.email:
            payload = {"approval_id": approval_id, "step": step, "user_id": user.pk}
            outbox.enqueue(kind=Kind.REMIND, subject=approval_id, payload=payload)
    return [user.username for user in people]


def tell_principal(window: Delegation) -> None:
    """Let whom a delegation is for be told that somebody else made or confirmed it. Part of its transaction."""
    if window.principal.email:
        payload = {"delegation_id": window.pk, "user_id": window.principal_id}
        outbox.enqueue(kind=Kind.REMIND, subject=f"delegation:{window.pk}", payload=payload)


def mail_for(*, user_id: int, approval_id: str = "", step: str = "", delegation_id: int = 0) -> Mail | None:
    """Return the mail as it is right now; `None` when there is nothing to tell any more.

    That is so when the approval is closed, or the person has left, has no address or may not decide it any more. What
    has ended is told to who decided it, unless it took effect after all.
    """
    if delegation_id:
        return _about_delegation(delegation_id)
    if step in (ENDED, SET_BACK):
        return _ended_mail(approval_id, user_id, step)
    approval = Approval.objects.filter(pk=approval_id, status=Approval.Status.PENDING).first()
    user = User.objects.filter(pk=user_id).exclude(email="").first()
    if approval is None or user is None:
        return None
    permit = may_decide(user, approval)
    if not permit.allowed:
        return None
    summary = one_line(approval.summary)
    lines = [
        summary,
        f"{one_line(approval.tool)} of {one_line(approval.agent)}, {approval.risk} risk",
        "",
        f"{_WHY[step]} It was asked on {_moment(approval.opened_at)} and expires on {_moment(approval.due_at)}.",
        one_line(permit.sentence),
        "",
        f"{settings.PUBLIC_URL}/approvals/{approval.pk}/",
        "",
        "The link opens the page, where you sign in and decide. Nothing is decided by this mail.",
    ]
    return Mail(user.email, f"Waits for you: {_cut(summary)}", "\n".join(lines))


def _ended_mail(approval_id: str, user_id: int, step: str) -> Mail | None:
    approval = Approval.objects.filter(pk=approval_id, took_effect_at=None).first()
    user = User.objects.filter(pk=user_id, is_active=True).exclude(email="").first()
    if approval is None or user is None or not roles.may(user, "see"):
        return None
    summary = one_line(approval.summary)
    lines = [
        summary,
        f"{one_line(approval.tool)} of {one_line(approval.agent)}, {approval.risk} risk",
        "",
        *_why_in_vain(approval, step),
        "",
        f"{settings.PUBLIC_URL}/approvals/{approval.pk}/",
    ]
    return Mail(user.email, f"Did not take effect: {_cut(summary)}", "\n".join(lines))


def _why_in_vain(approval: Approval, step: str) -> list[str]:
    if step == SET_BACK:
        words = "You decided this, and its run was set back before your decision took effect. Nothing was done."
        return [words, "Where the run asks for it again, it is decided again."]
    words = "You decided this, and its run has ended before your decision took effect. Nothing was done."
    return [words, one_line(ports.agent_plane().why_ended(approval.run_id))]


def _cut(summary: str) -> str:
    return summary if len(summary) <= _SUBJECT_LETTERS else f"{summary[:_SUBJECT_LETTERS]}…"


def _about_delegation(delegation_id: int) -> Mail | None:
    rows = Delegation.objects.select_related("principal", "delegate", "made_by", "confirmed_by")
    window = rows.filter(pk=delegation_id, revoked_at=None, ends_at__gt=DatabaseNow()).first()
    if window is None or not (window.principal.is_active and window.principal.email):
        return None
    who = one_line(window.delegate.username)
    lines = [
        f"{one_line(window.made_by.username)} wants {who} to decide in your place",
        f"from {_moment(window.starts_at)} until {_moment(window.ends_at)}.",
        "",
        f"{one_line(window.confirmed_by.username)} has confirmed it."
        if window.confirmed_by
        else "It does not hold before you or a second admin has confirmed it.",
        "",
        f"{settings.PUBLIC_URL}/delegations/",
        "",
        "There you can end it, also before it begins.",
    ]
    return Mail(window.principal.email, f"{who} is to stand in for you", "\n".join(lines))


def _people(approval: Approval) -> list[User]:
    standing_in = open_windows().values("delegate")
    named = Q(groups__name__in=approval.audience) | Q(username__in=approval.people) | Q(is_superuser=True)
    rows = User.objects.filter(named | Q(pk__in=standing_in))
    return one_for_each_address(rows.distinct(), lambda user: may_decide(user, approval).allowed)


def one_for_each_address(users: QuerySet[User], concerns: Callable[[User], bool] = lambda _: True) -> list[User]:
    """Return whom a mail goes to, by name: the first account of each address whom it concerns.

    At most PEOPLE_AT_MOST of them are looked at, so that a large group does not hold the transaction up.
    """
    by_address: dict[str, User] = {}
    for user in users.filter(is_active=True).exclude(email="").order_by("username")[:PEOPLE_AT_MOST]:
        if user.email.lower() not in by_address and concerns(user):
            by_address[user.email.lower()] = user
    return list(by_address.values())


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %B %Y at %H:%M} UTC"
