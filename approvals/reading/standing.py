"""What pages show of what is approved in advance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import User

from approvals.models import Decision, StandingApproval
from approvals.people import standing_conditions
from approvals.people.permissions import STANDING
from console import roles
from console.clock import database_now

MOST_LISTED: Final = 200
USES_SHOWN: Final = 5


@dataclass(frozen=True)
class Given:
    """One standing approval, its conditions in words, and how it stands by the database's clock."""

    standing: StandingApproval
    conditions: list[tuple[str, str]]  # path, what is said of it
    state: str  # in_force, used_up, over or revoked
    may_revoke: bool
    latest: list[Decision]  # the newest uses, each with its approval

    @property
    def is_in_force(self) -> bool:
        return self.state == "in_force"


def standing_list(user: User) -> list[Given]:
    """Return the newest standing approvals, those in force first. Three queries."""
    rows = StandingApproval.objects.select_related("made_by", "revoked_by", "made_from").order_by("-made_at", "-pk")
    now, found = database_now(), list(rows[:MOST_LISTED])
    latest = _latest(one.pk for one in found)
    given = [_given(user, one, now, latest.get(one.pk, [])) for one in found]
    return sorted(given, key=lambda one: not one.is_in_force)


def standing_named(user: User, standing_id: str) -> Given | None:
    """Return one standing approval. Two queries."""
    rows = StandingApproval.objects.select_related("made_by", "revoked_by", "made_from")
    found = rows.filter(pk=standing_id).first()
    return _given(user, found, database_now(), []) if found else None


def uses_of(given: Given) -> list[Decision]:
    """Return every use, newest first, each with its approval. One query."""
    uses = Decision.objects.filter(source=f"{STANDING}{given.standing.pk}").select_related("approval")
    return list(uses.defer("approval__canonical", "approval__arguments_schema").order_by("-at", "-pk"))


def _latest(ids: Iterable[str]) -> dict[str, list[Decision]]:
    sources = [f"{STANDING}{pk}" for pk in ids]
    uses = Decision.objects.filter(source__in=sources).select_related("approval")
    latest: dict[str, list[Decision]] = {}
    for use in uses.only("source", "at", "approval__summary").order_by("-at", "-pk")[: MOST_LISTED * USES_SHOWN]:
        kept = latest.setdefault(use.source.removeprefix(STANDING), [])
        if len(kept) < USES_SHOWN:
            kept.append(use)
    return latest


def _given(user: User, one: StandingApproval, now: datetime, latest: list[Decision]) -> Given:
    is_open = one.revoked_at is None and one.expires_at > now and one.uses < one.uses_at_most
    state = "in_force" if is_open else "over"
    if not is_open and one.revoked_at is not None:
        state = "revoked"
    elif not is_open and one.uses >= one.uses_at_most:
        state = "used_up"
    may_revoke = is_open and (one.made_by_id == user.pk or roles.has_role(user, "admin"))
    words = [(condition["path"], standing_conditions.in_words(condition)) for condition in one.conditions]
    return Given(one, words, state, may_revoke, latest)
