"""Ask the policy that is active now about one request, and put the request under its answer.

A program may ask for less than the policy gives, never for more: fewer people, an earlier deadline. `audience` holds
roles and user names; a role's name means the role, everything else an account. A named person may decide only if the
policy also names them. If that leaves nobody, the policy's own people decide. The ladder's escalation adds whom the
policy names, asked for or not: it is there so that somebody can decide.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from django.contrib.auth.models import User
from django.db import DatabaseError

from approvals.models import Approval, PolicyVersion
from approvals.policies import shipped
from approvals.policies.calendars import Calendar, add
from approvals.policies.policy import Policy
from approvals.proposal.terms import FAIL_SAFE, Facts, Terms
from console import planned_once, ports, roles

logger = logging.getLogger(__name__)


def terms_for(facts: Facts) -> Terms:
    """Return the terms for one proposal under the policy that is active now. One query.

    Where no rule can be used an admin decides (`terms.FAIL_SAFE`), with the reason in words; so does whatever goes
    wrong in here. Only a database that does not answer raises: then the caller's change does not happen either.
    """
    label = ""
    try:
        policy = active_policy()
        label = policy.label
        return policy.terms_for(facts)
    except DatabaseError:
        raise
    except Exception:
        # Nothing that breaks in a policy may let a proposal through, or keep it from people.
        logger.exception("The policy broke for the tool %s of %s", facts.tool, facts.agent)
        return replace(FAIL_SAFE, policy_version=label, reason="The policy broke; the log of the server says how.")


# By hand, for it stands in the path of every click. The active one comes first.
_ACTIVE = """
SELECT state, version, rules::text, calendars::text FROM approvals_policyversion
WHERE state IN ('active', 'replaced') ORDER BY state, version DESC LIMIT 1
"""


def active_policy() -> Policy:
    """Return the policy that is active now: the active version, or the shipped rules while there never was one."""
    with planned_once.cursor() as cursor:
        cursor.execute(_ACTIVE)
        found = cursor.fetchone()
    if found is None:
        return _shipped()
    state, version, rules, calendars = found
    if state != PolicyVersion.State.ACTIVE:
        return Policy(f"after {version}", None, {})  # an active one is missing: all of it fails safe
    return _compiled(version, rules, calendars)


@lru_cache(maxsize=16)
def _compiled(version: int, rules: str, calendars: str) -> Policy:
    """Compile once. The text is part of the key, for a restored database may give a number a second meaning."""
    return Policy(str(version), json.loads(rules), json.loads(calendars))


@lru_cache(maxsize=1)
def _shipped() -> Policy:
    return Policy(shipped.LABEL, shipped.RULES, shipped.CALENDARS)


def facts_of(approval: Approval, arguments: dict[str, Any]) -> Facts:
    """Return what the policy looks at, for arguments that may be edited ones."""
    return Facts(
        source=approval.source,
        agent=approval.agent,
        tool=approval.tool,
        kind=policy_kind(approval.kind),
        risk=approval.tool_risk,
        arguments=arguments,
        is_known=approval.tool_is_known,
        is_stale=partial(is_stale, approval.dataset_versions),
    )


def is_stale(reads: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether any of what the agent has read is not current now, or was not confirmed in time."""
    return any(not read["is_fresh"] for read in ports.data_plane().told(reads)) if reads else False


def why_not_on_this_data(terms: Terms, reads: Sequence[Mapping[str, Any]]) -> str:
    """Return in a sentence why nobody may approve what was made from these reads; "" where it may be approved."""
    if not terms.needs_fresh_data or not reads:
        return ""
    stale = [read for read in ports.data_plane().told(reads) if not read["is_fresh"]]
    if not stale:
        return ""
    told = "; ".join(f"{read['dataset']} version {read['version']}, {read['note'] or 'not fresh'}" for read in stale)
    return (
        f"The rule “{terms.rule}” lets nobody approve this on stale data, and the agent has read {told}. "
        "Refresh and ask again, or reject it."
    )


def policy_kind(kind: str) -> str:
    """Return what the policy's rules call this kind: they know actions, and questions about outcomes."""
    return kind if kind == Approval.Kind.OUTCOME else Approval.Kind.ACTION


def terms_now(approval: Approval, arguments: dict[str, Any] | None = None) -> Terms:
    """Return what the policy says of an approval now, as `terms_for` does. `arguments`: edited ones, else its own."""
    return terms_for(facts_of(approval, approval.arguments if arguments is None else arguments))


def under_terms(approval: Approval, terms: Terms) -> None:
    """Put the approval under terms, without saving it. The ladder's times stay, and whom it has added."""
    added = terms.escalate_to if "escalate" in approval.climbed else ()
    approval.terms = terms.to_json()
    approval.policy_version = terms.policy_version
    narrowed = narrow(terms, approval.asked.get("audience", ()))
    approval.audience = sorted({*narrowed.groups, *added})
    approval.people = list(narrowed.people)
    is_of_before = approval.source == Approval.Source.PROGRAM and "verdicts" not in approval.asked
    asked = approval.verdicts if is_of_before else approval.asked.get("verdicts", ())
    approval.verdicts = verdicts_under(terms, asked)
    approval.needed = terms.needed
    approval.risk = terms.risk


def verdicts_under(terms: Terms, asked: Sequence[str]) -> list[str]:
    """Return the verdicts that the terms allow of those asked for, all of them where none are asked for.

    Where the terms allow none of what the form of asking can carry, or a program can take, these stay: a question can
    only be answered. `approve` and `reject` are never among them, for every rule takes both.
    """
    found = [verdict for verdict in terms.verdicts if not asked or verdict in asked]
    return found or list(asked)


def ladder_from(terms: Terms, opened_at: datetime) -> list[tuple[str, datetime]]:
    """Return the ladder's steps in order, each with its time; with a calendar only its hours count."""
    calendar = Calendar.model_validate(terms.hours) if terms.hours else None
    return [
        (step, add(opened_at, seconds, calendar) if calendar else opened_at + timedelta(seconds=seconds))
        for step, seconds in (
            ("remind", terms.remind_after),
            ("escalate", terms.escalate_after),
            ("expire", terms.expire_after),
        )
    ]


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
