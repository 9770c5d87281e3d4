"""Working as a team: what pages show of claims, of who else looks, of comments and delegations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import User
from django.db.models import Q

from approvals.models import Approval, Comment, Delegation
from approvals.people.permissions import Permit, may_confirm
from approvals.people.persons import persons_of
from approvals.services.claims import CLAIM_LASTS
from console import roles
from console.clock import DatabaseNow
from console.live import presence

MOST_COLLEAGUES: Final = 100


@dataclass(frozen=True)
class Claim:
    """Who is at it, for how long without a renewal."""

    by: str  # user name
    by_id: int
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Person:
    """Somebody else at the same page."""

    username: str
    name: str


@dataclass(frozen=True)
class Team:
    """What `_team.html` shows."""

    approval: Approval
    is_open: bool
    claim: Claim | None
    is_mine: bool
    may_claim: bool
    may_release: bool
    may_reassign: bool
    colleagues: list[str]  # user names to hand it to; whether they may decide it is asked when it is handed over
    others: list[Person]  # who has the page open besides the reader
    comments: list[Comment]  # oldest first
    comments_of_mine: int  # names the box, so that it is empty again after each comment and at no other time


def team_of(user: User, approval: Approval, permit: Permit) -> Team:
    """Return what the card shows of the team. Four queries at most, whatever is there; `permit`: from `may_decide`."""
    is_open = approval.is_open
    claim = live_claims([approval.pk]).get(approval.pk) if is_open else None
    is_mine = claim is not None and claim.by_id == user.pk
    may_move = roles.has_role(user, "operator", "admin")
    may_reassign = is_open and (is_mine or may_move)
    comments = list(approval.comments.select_related("by").order_by("at", "pk"))
    may_hold = is_open and permit.allowed and roles.may(user, "decide")
    return Team(
        approval=approval,
        is_open=is_open,
        claim=claim,
        is_mine=is_mine,
        may_claim=may_hold and (claim is None or is_mine),
        may_release=claim is not None and (is_mine or may_move),
        may_reassign=may_reassign,
        colleagues=_colleagues(approval, claim) if may_reassign else [],
        others=also_looking(user, approval.pk),
        comments=comments,
        comments_of_mine=sum(comment.by_id == user.pk for comment in comments),
    )


def also_looking(user: User, approval_id: str) -> list[Person]:
    """Return who has the approval's page open besides the user, by name. One query.

    For a page that was allowed to show the approval; being on the list needs a socket, which needs the right to see.
    """
    lookers = presence.lookers_at(f"{presence.KIND}{approval_id}")
    return [Person(looker.username, looker.name) for looker in lookers if looker.user_id != user.pk]


def live_claims(approval_ids: Iterable[str]) -> dict[str, Claim]:
    """Return the claims that last, by approval id. One query; a lapsed claim is none, by the database's clock."""
    held = Approval.objects.filter(
        pk__in=list(approval_ids),
        status=Approval.Status.PENDING,
        claimed_by__isnull=False,
        claimed_at__gt=DatabaseNow() - CLAIM_LASTS,
    )
    return {
        pk: Claim(username, user_id, at, at + CLAIM_LASTS)
        for pk, username, user_id, at in held.values_list("pk", "claimed_by__username", "claimed_by", "claimed_at")
        if username and user_id and at
    }


def _colleagues(approval: Approval, claim: Claim | None) -> list[str]:
    named = Q(groups__name__in=approval.audience) | Q(username__in=approval.people)
    able = Q(groups__name__in=roles.PERMISSIONS["decide"]) | Q(is_superuser=True)
    rows = User.objects.filter(named, is_active=True).filter(able)
    if claim is not None:
        rows = rows.exclude(pk=claim.by_id)
    if approval.requested_by_id:
        rows = rows.exclude(pk=approval.requested_by_id)
    return list(rows.order_by("username").values_list("username", flat=True).distinct()[:MOST_COLLEAGUES])


@dataclass(frozen=True)
class Windows:
    """Delegations as their page shows them, the soonest to end first, those that have ended last."""

    mine: list[Delegation]
    for_me: list[Delegation]
    all: list[Delegation]  # for admins
    confirmable: set[int]  # ids of those that wait for a word and may be confirmed by the user


MOST_WINDOWS: Final = 200


def windows_of(user: User) -> Windows:
    """Return the delegations that concern the user, all of them for admins. Two queries, MOST_WINDOWS rows."""
    rows = Delegation.objects.select_related("principal", "delegate", "made_by", "confirmed_by").order_by(
        "-ends_at", "-pk"
    )
    if not roles.has_role(user, "admin"):
        rows = rows.filter(Q(principal=user) | Q(delegate=user))
    found = list(rows[:MOST_WINDOWS])
    waiting = [one for one in found if not one.is_confirmed and one.revoked_at is None]
    persons = persons_of([user, *(person for one in waiting for person in (one.made_by, one.delegate))])
    return Windows(
        mine=[one for one in found if one.principal_id == user.pk],
        for_me=[one for one in found if one.delegate_id == user.pk],
        all=[one for one in found if user.pk not in (one.principal_id, one.delegate_id)],
        confirmable={one.pk for one in waiting if may_confirm(one, user, persons)},
    )


def to_confirm(user: User) -> list[Delegation]:
    """Return the delegations that others made in the user's name and that wait for a word. One query."""
    rows = Delegation.objects.filter(principal=user, confirmed_by=None, revoked_at=None, ends_at__gt=DatabaseNow())
    return list(rows.exclude(made_by=user).select_related("delegate", "made_by").order_by("pk")[:MOST_WINDOWS])
