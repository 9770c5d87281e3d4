"""Who may decide an approval, in one place; asked when shown, when decided and when executed.

Rights belong to people, not to accounts (`approvals.people.persons`): a second account gives no second vote and no way
around four eyes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.db.models import F, Q, QuerySet

from approvals.models import Approval, Decision, Delegation, Risk, StandingApproval, Verdict
from approvals.people.persons import persons_of
from approvals.proposal.terms import Terms
from console import roles
from console.clock import DatabaseNow

AGREEING = (Verdict.APPROVE, Verdict.EDIT)
STANDING = "standing:"  # how the source of a standing approval's decisions begins
_CHANGED = "You changed this proposal, so somebody else has to approve it."


@dataclass(frozen=True)
class Permit:
    """The answer with its reason: `rule` names it for programs, `sentence` tells a person."""

    allowed: bool
    rule: str
    sentence: str
    on_behalf_of: User | None = None  # whose right it is, when a delegate decides


@dataclass(frozen=True)
class Audience:
    """Who an approval names, as rows or terms say it."""

    groups: Sequence[str]
    people: Sequence[str]
    within: Audience | None = None  # who must name the user besides: the policy, where a program named people

    def names(self, user: User) -> bool:
        """Return whether the user is meant, by role or by name."""
        is_named = user.username in self.people or bool(roles.roles_of(user) & set(self.groups))
        return is_named and (self.within is None or self.within.names(user))

    def words(self) -> str:
        """Return the audience for a sentence: "reviewer, admin or alice"."""
        names = [*self.groups, *self.people]
        return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names) or "nobody"


@dataclass(frozen=True)
class PeopleAround:
    """What a caller has read of an approval's people, so that it is not read again; see `services.decision_sql`."""

    decisions: Sequence[Decision]  # all of the approval's in their order, with `by` and `on_behalf_of` and their roles
    owners: Sequence[User]  # of the agent
    links: Mapping[int, str | None]  # by user id the person whom the account is linked to, as in `persons_of`


def may_decide(user: User, approval: Approval, around: PeopleAround | None = None) -> Permit:
    """Return whether the person may decide the approval as it now stands, in their own right or for somebody else.

    The answer depends on people and the request only; whether it is still open is the decision's own check. `around`
    is read where the caller does not have it.
    """
    if not user.is_active:
        return Permit(False, "active-account", "This account is disabled.")
    audience = audience_of(approval)
    principals = [None] if audience.names(user) else [p for p in principals_of(user) if audience.names(p)]
    if not principals:
        return Permit(False, "audience", f"This request can be decided by: {audience.words()}.")
    decisions = around.decisions if around else approval.decisions.select_related("by", "on_behalf_of")
    votes = [vote for vote in decisions if vote.for_version == approval.version]
    refusals = [refusal_for(user, principal, approval, votes, around) for principal in principals]
    for principal, refusal in zip(principals, refusals, strict=True):
        if refusal is None:
            sentence = "You may decide this request."
            if principal is not None:
                sentence = f"You may decide this request on behalf of {principal.username}."
            return Permit(True, "delegation" if principal else "audience", sentence, principal)
    refused = refusals[0]
    assert refused is not None
    return refused


def may_still_decide(user: User, principal: User | None, approval: Approval) -> Permit:
    """Return whether a decision that was theirs to make still would be: asked again before its effect."""
    if not user.is_active:
        return Permit(False, "active-account", "This account is disabled.")
    audience = audience_of(approval)
    if not audience.names(principal or user) or (principal and not roles.may(user, "decide")):
        return Permit(False, "audience", f"This request can be decided by: {audience.words()}.")
    return refusal_for(user, principal, approval, []) or Permit(True, "audience", "The decision stands.", principal)


def refusal_for(
    user: User,
    principal: User | None,
    approval: Approval,
    votes: list[Decision],
    around: PeopleAround | None = None,
) -> Permit | None:
    """Return why four eyes or an earlier vote stand against these people, `None` when nothing does.

    `votes`: earlier decisions that speak for the current version, with `by` and `on_behalf_of` loaded.
    """
    excluded = _excluded(approval, approval.given_terms.four_eyes, around)
    voters = [person for vote in votes for person in (vote.by, vote.on_behalf_of) if person]
    asking = [user] + ([principal] if principal else [])
    people = [*asking, *(person for person, _ in excluded), *voters]
    persons = persons_of(people, around.links if around else None)
    mine = {persons[person.pk] for person in asking}
    for person, sentence in excluded:
        if persons[person.pk] in mine:
            return Permit(False, "four-eyes", sentence)
    if mine & {persons[person.pk] for person in voters}:
        return Permit(False, "one-vote", "You have decided this version already; it needs other people now.")
    return None


def says_the_same(vote: Decision, other: Decision) -> bool:
    """Return whether both agree to the proposal, both reject it, or both give the very same answer in its place."""
    if other.verdict in AGREEING:
        return vote.verdict in AGREEING
    return vote.verdict == other.verdict and _exact(vote.answer) == _exact(other.answer)


def agreeing_persons(
    approval: Approval,
    terms: Terms | None = None,
    decisions: Sequence[Decision] | None = None,
    *,
    answer: Decision | None = None,
    around: PeopleAround | None = None,
) -> set[str]:
    """Return the different people who agree to the current version and may still decide, under the terms.

    `terms` defaults to those that the approval stands under. `decisions`: all of the approval's with `by` and
    `on_behalf_of` loaded; they are read where the caller does not have them. `answer`: count those who gave the same
    answer instead of those who agree. `around`: with the decisions, in their place. A delegate's vote is the one vote
    of whom it stands for; a vote of anybody whom four eyes exclude, or of the policy itself, counts for nobody.
    """
    terms = terms or approval.given_terms
    if around is not None:
        decisions = around.decisions
    if decisions is None:
        decisions = list(approval.decisions.select_related("by", "on_behalf_of"))
    audience = _named_by(terms, approval)
    votes = [
        (vote.by, vote.on_behalf_of or vote.by)
        for vote in _counting(decisions, terms)
        if (vote.for_version, vote.for_digest) == (approval.version, approval.digest)
        and (says_the_same(vote, answer) if answer else vote.verdict in AGREEING)
        and vote.by is not None
    ]
    excluded = _excluded(approval, terms.four_eyes, around)
    people = [person for vote in votes for person in vote] + [person for person, _ in excluded]
    persons = persons_of(people, around.links if around else None)
    barred = {persons[person.pk] for person, _ in excluded}
    return {
        persons[principal.pk]
        for by, principal in votes
        if by.is_active
        and principal.is_active
        and audience.names(principal)
        and (by == principal or roles.may(by, "decide"))
        and not {persons[by.pk], persons[principal.pk]} & barred
    }


def _exact(answer: Any) -> str:
    """Return the answer's JSON as text: 1, 1.0 and true are three answers."""
    return json.dumps(answer, sort_keys=True, ensure_ascii=False)


def wants_somebody(terms: Terms) -> bool:
    """Return whether the terms want a person at the screen each time, so that nothing is approved in advance."""
    return bool(terms.fresh_sign_in_minutes or terms.dwell_seconds or terms.needs_fresh_data or terms.risk == Risk.HIGH)


def _counting(votes: Sequence[Decision], terms: Terms) -> Sequence[Decision]:
    """Return the decisions, without those in advance when the terms want somebody or they were taken back since."""
    in_advance = {vote.source for vote in votes if vote.source.startswith(STANDING)}
    if not in_advance:
        return votes
    given = StandingApproval.objects.filter(pk__in=[source.removeprefix(STANDING) for source in in_advance])
    standing = set() if wants_somebody(terms) else {STANDING + one.pk for one in given.filter(revoked_at=None)}
    return [vote for vote in votes if vote.source not in in_advance or vote.source in standing]


def audience_of(approval: Approval) -> Audience:
    """Return who may decide. A program names people by name, who count only while the policy names them too."""
    within = _named_by(approval.given_terms, approval) if approval.asked.get("audience") else None
    return Audience(approval.audience, approval.people, within)


def _named_by(terms: Terms, approval: Approval) -> Audience:
    return Audience([*terms.groups, *(terms.escalate_to if "escalate" in approval.climbed else ())], terms.people)


def _excluded(
    approval: Approval, four_eyes: Sequence[str], around: PeopleAround | None = None
) -> list[tuple[User, str]]:
    """Return who must not decide, each with the sentence that says why."""
    excluded: list[tuple[User, str]] = []
    if "requester" in four_eyes and approval.requested_by is not None:
        excluded.append((approval.requested_by, "You started this run, so somebody else has to decide it."))
    if "owner" in four_eyes and approval.agent_owners:
        owners = around.owners if around else User.objects.filter(username__in=approval.agent_owners)
        excluded += [(owner, "You own this agent, so somebody else has to decide for it.") for owner in owners]
    if "editor" in four_eyes and approval.version > 1:
        decisions = around.decisions if around else approval.decisions.select_related("by", "on_behalf_of")
        for edit in (one for one in decisions if one.verdict == Verdict.EDIT):
            editors = [person for person in (edit.by, edit.on_behalf_of) if person]  # whose right was used, too
            excluded += [(editor, _CHANGED) for editor in editors]
    return excluded


def open_windows() -> QuerySet[Delegation]:
    """Return the delegations that hold now, by the database's clock; see `Delegation.is_confirmed`."""
    now = DatabaseNow()
    is_confirmed = Q(made_by=F("principal")) | Q(confirmed_by__isnull=False)
    return Delegation.objects.filter(is_confirmed, revoked_at=None, starts_at__lte=now, ends_at__gt=now)


def principals_of(user: User) -> list[User]:
    """Return the active people whom the user stands in for now, by the database's clock, with their roles known.

    Only who may decide at all stands in for somebody; what a principal decides for others is not handed on. Three
    queries at most, however many there are.
    """
    if not roles.may(user, "decide"):
        return []
    windows = open_windows().filter(delegate=user, principal__is_active=True)
    people: dict[int, User] = {}
    for window in windows.select_related("principal").prefetch_related("principal__groups").order_by("pk"):
        principal = people.setdefault(window.principal_id, window.principal)
        roles.keep_roles(principal, [group.name for group in principal.groups.all()])
    return list(people.values())


def may_confirm(window: Delegation, by: User, persons: Mapping[int, str]) -> bool:
    """Return whether the person may let a delegation hold that somebody made for somebody else.

    `persons`: of `by`, of its maker and of whoever stands in, by user id.
    """
    if by.pk == window.principal_id:
        return True
    others = {persons[window.made_by_id], persons[window.delegate_id]}
    return roles.has_role(by, "admin") and persons[by.pk] not in others


def visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Approval]:
    """Return the approvals that the user may see: all with a role that sees, a service account what it asked for."""
    if roles.may(user, "see"):
        return Approval.objects.all()
    if roles.has_role(user, "service"):
        return Approval.objects.filter(source=Approval.Source.PROGRAM, requested_by_id=user.pk)
    return Approval.objects.none()


def may_redrive(user: User, decisions: list[Decision]) -> bool:
    """Return whether the person may act on a decision in the lane: who took part in it, operators and admins."""
    took_part = any(user.pk in (decision.by_id, decision.on_behalf_of_id) for decision in decisions)
    return roles.may(user, "redrive") or (took_part and roles.may(user, "see"))
