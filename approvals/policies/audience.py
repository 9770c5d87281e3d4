"""What a program may ask of the policy: fewer people, an earlier deadline. Never more than the policy gives.

`audience` holds roles and user names: a role's name means the role, everything else an account. Whom it names decides
only if the policy names them too. When nobody would be left, the policy's own people decide. The ladder's escalation
adds whom the policy names, asked for or not: it is there so that somebody can decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User

from approvals.policies.terms import Terms
from console import roles


@dataclass(frozen=True)
class Narrowed:
    """Who is left. `is_empty`: the policy names nobody of those asked for, so its own people stand here."""

    groups: tuple[str, ...]
    people: tuple[str, ...]
    is_empty: bool = False


def narrow(terms: Terms, asked: Sequence[str]) -> Narrowed:
    """Return whom both the policy and the program name. Without names asked for: the policy's own, no query."""
    if not asked:
        return Narrowed(terms.groups, terms.people)
    groups = tuple(group for group in terms.groups if group in asked)
    named = User.objects.filter(username__in={*_names(asked), *terms.people}, is_active=True)
    people = tuple(
        user.username
        for user in named.prefetch_related("groups").order_by("username")
        if _is_one_of(user, terms.groups, terms.people) and _is_one_of(user, asked, _names(asked))
    )
    if not groups and not people:
        return Narrowed(terms.groups, terms.people, is_empty=True)
    return Narrowed(groups, people)


def unknown(asked: Sequence[str]) -> list[str]:
    """Return the names that are neither a role nor an active account. One query."""
    names = _names(asked)
    known = set(User.objects.filter(username__in=names, is_active=True).values_list("username", flat=True))
    return [name for name in names if name not in known]


def until(due_at: datetime | None, ladder: Sequence[tuple[str, datetime]]) -> list[tuple[str, datetime]]:
    """Return the ladder with an earlier end; steps that would come after it drop. A later end changes nothing."""
    if due_at is None or due_at >= ladder[-1][1]:
        return list(ladder)
    return [(step, at) for step, at in ladder if at < due_at and step != "expire"] + [("expire", due_at)]


def _names(asked: Iterable[str]) -> list[str]:
    return [name for name in asked if name not in roles.ROLES]


def _is_one_of(user: User, groups: Iterable[str], people: Iterable[str]) -> bool:
    held = roles.keep_roles(user, [group.name for group in user.groups.all()])
    return user.username in people or bool(held & set(groups))
