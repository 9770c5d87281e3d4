"""Mail to the people whom an approval waits for, when its ladder reminds or escalates.

Who is told stands in the step's own audit entry, and one outbox entry for each of them in its transaction; the relay
sends them. A mail is written when it is sent, from what holds then. It only links to the page: nothing can be decided
by it, nor by whatever opens its link.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q

from approvals.models import Approval
from approvals.permissions import may_decide, open_windows
from approvals.visible import one_line
from console import outbox

KIND: Final = "remind"  # of the outbox entries
PEOPLE_AT_MOST: Final = 200
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
            kind=KIND,
            subject=approval.pk,
            payload={"approval_id": approval.pk, "step": step, "user_id": user.pk},
        )
    return [user.username for user in told]


def mail_for(*, approval_id: str, step: str, user_id: int) -> Mail | None:
    """Return the mail as it is right now; `None` when there is nothing to tell any more.

    That is so when the approval is closed, or the person has left, has no address or may not decide it any more.
    """
    approval = Approval.objects.filter(pk=approval_id, status=Approval.Status.PENDING).first()
    user = User.objects.filter(pk=user_id).exclude(email="").first()
    if approval is None or user is None:
        return None
    permit = may_decide(user, approval)
    if not permit.allowed:
        return None
    summary = one_line(approval.summary)
    cut = summary if len(summary) <= _SUBJECT_LETTERS else f"{summary[:_SUBJECT_LETTERS]}…"
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
    return Mail(user.email, f"Waits for you: {cut}", "\n".join(lines))


def _people(approval: Approval) -> list[User]:
    standing_in = open_windows().values("delegate")
    named = Q(groups__name__in=approval.audience) | Q(username__in=approval.people) | Q(is_superuser=True)
    rows = User.objects.filter(named | Q(pk__in=standing_in), is_active=True).exclude(email="")
    by_address: dict[str, User] = {}
    for user in rows.distinct().order_by("username")[:PEOPLE_AT_MOST]:
        if user.email.lower() not in by_address and may_decide(user, approval).allowed:
            by_address[user.email.lower()] = user
    return list(by_address.values())


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %B %Y at %H:%M} UTC"
