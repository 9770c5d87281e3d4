"""What another policy would mean: for every open approval, and for what was decided in the last month.

Approximate in one way: who may decide is looked up as people are now, not as they were then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db.models import QuerySet

from approvals.models import Approval, Decision, Verdict
from approvals.people.permissions import AGREEING
from approvals.people.persons import persons_of
from approvals.policies.asking import facts_of
from approvals.policies.policy import Policy
from approvals.policies.words import changes, number
from approvals.proposal.terms import Terms
from console import roles
from console.clock import database_now

CAP = 2000  # newest of each kind
DAYS = 30
SHOWN = 20  # links in one group

_LOOKED_AT = (
    *("canonical", "summary", "status", "version", "requested_by_id", "agent_owners"),
    *("source", "agent", "tool", "kind", "tool_risk", "tool_is_known", "dataset_versions"),  # facts_of
)


@dataclass(frozen=True)
class PreviewRow:
    """One approval that would go another way."""

    approval_id: str
    summary: str
    status: str
    reason: str = ""  # why it would not have been allowed


@dataclass(frozen=True)
class PreviewChange:
    """Approvals for which the same would change."""

    words: str
    count: int
    rows: tuple[PreviewRow, ...]  # the first of them


@dataclass(frozen=True)
class PolicyPreview:
    """What would change. The caps are reached when there were more rows than were looked at."""

    open_count: int
    decided_count: int
    open_changes: tuple[PreviewChange, ...]
    decided_changes: tuple[PreviewChange, ...]
    not_allowed: tuple[PreviewRow, ...]  # decided and done then, not enough under the other policy
    is_capped: bool

    @property
    def open_changed(self) -> int:
        return sum(change.count for change in self.open_changes)

    @property
    def decided_changed(self) -> int:
        return sum(change.count for change in self.decided_changes)


def preview(now: Policy, then: Policy) -> PolicyPreview:
    """Compare two policies over the approvals that are open or were decided lately. Nine queries at most.

    Tests of attention are left out.
    """
    light = Approval.objects.filter(is_seeded=False).only(*_LOOKED_AT)
    pending = list(light.filter(status=Approval.Status.PENDING).order_by("-opened_at", "-pk")[: CAP + 1])
    since = database_now() - timedelta(days=DAYS)
    decided = list(
        light.filter(status=Approval.Status.DECIDED, closed_at__gte=since).order_by("-closed_at", "-pk")[: CAP + 1]
    )
    is_capped = len(pending) > CAP or len(decided) > CAP
    pending, decided = pending[:CAP], decided[:CAP]
    differing = {row.pk: terms for row in decided if (terms := _terms(row, now, then))}
    agreement = _Agreement([row for row in decided if row.pk in differing])
    refused = [
        PreviewRow(row.pk, row.summary, row.status, reason)
        for row in decided
        if row.pk in differing and (reason := agreement.missing(row, differing[row.pk][1]))
    ]
    open_terms = {row.pk: terms for row in pending if (terms := _terms(row, now, then))}
    return PolicyPreview(
        open_count=len(pending),
        decided_count=len(decided),
        open_changes=_grouped(pending, open_terms),
        decided_changes=_grouped(decided, differing),
        not_allowed=tuple(refused),
        is_capped=is_capped,
    )


def _terms(approval: Approval, now: Policy, then: Policy) -> tuple[Terms, Terms] | None:
    """Return the terms under both policies where something would change, else `None`."""
    arguments = approval.arguments
    facts = facts_of(approval, arguments)
    one, other = now.terms_for(facts), then.terms_for(facts)
    return (one, other) if changes(one, other) else None


def _grouped(rows: Iterable[Approval], differing: dict[str, tuple[Terms, Terms]]) -> tuple[PreviewChange, ...]:
    groups: dict[str, list[PreviewRow]] = {}
    for row in rows:
        if row.pk in differing:
            words = ", ".join(changes(*differing[row.pk]))
            groups.setdefault(words, []).append(PreviewRow(row.pk, row.summary, row.status))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return tuple(PreviewChange(words, len(found), tuple(found[:SHOWN])) for words, found in ordered)


class _Agreement:
    """Who agreed to decided approvals, read for all of them at once."""

    def __init__(self, approvals: list[Approval]) -> None:
        ids = [approval.pk for approval in approvals]
        self._votes: dict[str, list[Decision]] = {}
        self._editors: dict[str, set[int]] = {}
        for vote in Decision.objects.filter(approval_id__in=ids).order_by("at", "pk"):
            self._votes.setdefault(vote.approval_id, []).append(vote)
            if vote.verdict == Verdict.EDIT:
                self._editors.setdefault(vote.approval_id, set()).update({vote.by_id or 0, vote.on_behalf_of_id or 0})
        owners = {owner for approval in approvals for owner in approval.agent_owners}
        voters = {pk for votes in self._votes.values() for vote in votes for pk in (vote.by_id, vote.on_behalf_of_id)}
        askers = {approval.requested_by_id for approval in approvals}
        wanted = [pk for pk in voters | askers | set().union(*self._editors.values()) if pk]
        self._users = {user.pk: user for user in _with_roles(User.objects.filter(pk__in=wanted))}
        self._owners = {user.username: user for user in User.objects.filter(username__in=owners)}
        self._persons = persons_of([*self._users.values(), *self._owners.values()])

    def missing(self, approval: Approval, terms: Terms) -> str:
        """Say why what was done would not have been enough, "" when it would or when nothing was done."""
        votes = [v for v in self._votes.get(approval.pk, []) if v.for_version == approval.version]
        agreed = [vote for vote in votes if vote.verdict in AGREEING]
        if not agreed or len(agreed) < len(votes) or approval.kind != Approval.Kind.ACTION:
            return ""
        if terms.outcome == "allow":
            return ""
        if terms.outcome == "deny":
            return f"Never done by the rule “{terms.rule}”."
        if any(vote.verdict == Verdict.EDIT for vote in agreed) and "edit" not in terms.verdicts:
            return f"Approved with a change, which the rule “{terms.rule}” does not take."
        persons = self._persons_agreeing(approval, agreed, terms)
        if len(persons) >= terms.needed:
            return ""
        by = ", ".join(sorted({self._users[vote.by_id].username for vote in agreed if vote.by_id}))
        had = f"Approved by {by}" if by else "Let through without anybody"
        return f"{had}; {number(terms.needed)} of those whom the rule “{terms.rule}” names would be needed."

    def _persons_agreeing(self, approval: Approval, agreed: list[Decision], terms: Terms) -> set[str]:
        barred = {self._persons[pk] for pk in self._barred(approval, terms) if pk in self._persons}
        found = set()
        for vote in agreed:
            if vote.by_id is None:
                continue
            by, holder = self._users[vote.by_id], self._users[vote.on_behalf_of_id or vote.by_id]
            is_named = holder.username in terms.people or bool(roles.roles_of(holder) & set(terms.groups))
            if is_named and not {self._persons[by.pk], self._persons[holder.pk]} & barred:
                found.add(self._persons[holder.pk])
        return found

    def _barred(self, approval: Approval, terms: Terms) -> set[int]:
        barred = {approval.requested_by_id or 0} if "requester" in terms.four_eyes else set()
        if "editor" in terms.four_eyes:
            barred |= self._editors.get(approval.pk, set())
        if "owner" in terms.four_eyes:
            barred |= {self._owners[name].pk for name in approval.agent_owners if name in self._owners}
        return barred


def _with_roles(users: QuerySet[User]) -> list[User]:
    found = list(users.prefetch_related("groups"))
    for user in found:
        if user.is_active:
            roles.keep_roles(user, [group.name for group in user.groups.all()])
    return found
