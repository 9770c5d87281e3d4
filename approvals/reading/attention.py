"""Guarding the reviewer: how people decide, told to themselves and to admins, so that tiredness shows in time.

What a standing approval or the policy decided is nobody's habit, and a test of attention is no work: neither counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q

from approvals.models import Approval, Decision
from approvals.people.permissions import AGREEING
from console import roles
from console.clock import DatabaseNow

DAYS: Final = 30  # that the figures look back
CHECK_DAYS: Final = 180  # that the tests of attention look back: there are few
HASTE_MINUTES: Final = 2
HASTE_APPROVALS: Final = 20  # in HASTE_MINUTES; from then on the page says so
_COUNTED_AT_MOST: Final = 500


@dataclass(frozen=True)
class Figures:
    """How one person decides about one tool, or about all."""

    tool: str
    decided: int
    approved: int
    median_ms: int  # from seeing to deciding, where the page was open; else from the asking

    @property
    def share(self) -> int:
        """Return the share approved in whole percent; 100 only when all were."""
        return self.approved * 100 // self.decided if self.decided else 0

    @property
    def time_words(self) -> str:
        """Return the median time in its two largest units."""
        seconds = round(self.median_ms / 1000)
        if seconds < 60:
            return f"{seconds} s"
        minutes, seconds = divmod(seconds, 60)
        if minutes < 60:
            return f"{minutes} min {seconds} s"
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d"


@dataclass
class Reviewer:
    """One person's figures."""

    username: str
    total: Figures
    tools: list[Figures] = field(default_factory=list)  # the most decided first
    checks: int = 0  # tests of attention met
    caught: int = 0  # of these, not approved


def report(user: User | None) -> list[Reviewer]:
    """Return the figures of one person, of everybody for `None`: who decided most first. Two queries."""
    only = user.pk if user else None
    found: dict[str, Reviewer] = {}
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES, {"only": only, "days": DAYS, "agreeing": list(AGREEING)})
        for username, tool, decided, approved, median_ms in cursor.fetchall():
            figures = Figures(tool or "", decided, approved, int(median_ms))
            if tool is None:
                found[username] = Reviewer(username, figures)
            else:
                found[username].tools.append(figures)
        cursor.execute(_CHECKS, {"only": only, "days": CHECK_DAYS, "agreeing": list(AGREEING)})
        for username, checks, caught in cursor.fetchall():
            one = found.setdefault(username, Reviewer(username, Figures("", 0, 0, 0)))
            one.checks, one.caught = checks, caught
    return list(found.values())


_FIGURES = """
SELECT person.username, approval.tool, count(*), count(*) FILTER (WHERE decision.verdict = ANY(%(agreeing)s)),
       percentile_cont(0.5) WITHIN GROUP (ORDER BY coalesce(
           decision.dwell_ms, extract(epoch FROM decision.at - approval.opened_at) * 1000)::float)
FROM approvals_decision AS decision
JOIN approvals_approval AS approval ON approval.id = decision.approval_id
JOIN auth_user AS person ON person.id = decision.by_id
WHERE decision.at > signalbox_now() - make_interval(days => %(days)s) AND decision.source = ''
  AND NOT approval.is_seeded AND (%(only)s::bigint IS NULL OR decision.by_id = %(only)s)
GROUP BY GROUPING SETS ((person.username), (person.username, approval.tool))
ORDER BY grouping(approval.tool) DESC, count(*) DESC, person.username, approval.tool
"""
#: Only what is closed: a vote on an open one must not give it away.
_CHECKS = """
SELECT person.username, count(*), count(*) FILTER (WHERE decision.verdict <> ALL(%(agreeing)s))
FROM approvals_decision AS decision
JOIN approvals_approval AS approval ON approval.id = decision.approval_id
JOIN auth_user AS person ON person.id = decision.by_id
WHERE approval.is_seeded AND approval.status <> 'pending'
  AND decision.at > signalbox_now() - make_interval(days => %(days)s)
  AND (%(only)s::bigint IS NULL OR decision.by_id = %(only)s)
GROUP BY person.username ORDER BY person.username
"""


@dataclass(frozen=True)
class Haste:
    """Somebody approves faster than anybody reads."""

    approvals: int
    minutes: int = HASTE_MINUTES


def haste_of(user: User) -> Haste | None:
    """Return how many the person has just approved when it is a great many, else `None`. One query, over an index."""
    now = DatabaseNow()
    is_work = Q(approval__is_seeded=False) | Q(approval__status=Approval.Status.PENDING)  # see _CHECKS
    recent = Decision.objects.filter(
        is_work, by=user, at__gt=now - timedelta(minutes=HASTE_MINUTES), source="", verdict__in=AGREEING
    )
    count = recent.order_by()[:_COUNTED_AT_MOST].count()
    return Haste(count) if count >= HASTE_APPROVALS else None


@dataclass(frozen=True)
class Attention:
    """What to say of a test of attention. `tone`: ok, warn or info."""

    tone: str
    words: str


def attention_of(user: User, approval: Approval) -> Attention | None:
    """Say that a request was a test of attention: to admins always, to the others once it is closed.

    One query, for such requests only.
    """
    if not approval.is_seeded:
        return None
    if approval.is_open:
        if roles.has_role(user, "admin"):
            return Attention("info", "This is a test of attention that should be rejected. Only admins see this line.")
        return None
    verdicts = dict(approval.decisions.order_by("at").values_list("by__username", "verdict"))
    mine = verdicts.get(user.username)
    if mine is None:
        others = ", ".join(name for name, verdict in verdicts.items() if verdict not in AGREEING)
        caught = f"{others} caught it." if others else "Nobody caught it."
        return Attention("info", f"This was a test of attention and was never going to run. {caught}")
    if mine in AGREEING:
        return Attention(
            "warn",
            "This was a test of attention: it should have been rejected. Nothing ran and nothing will. It happens to "
            "everybody who decides a lot; a short break helps more than a long queue.",
        )
    return Attention("ok", "This was a test of attention, and you caught it. It was never going to run. Thank you.")
