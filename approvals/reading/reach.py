"""Who could decide a request as things stand: so that one that nobody can decide is told of at once, not at its end.

A delegate adds nobody: whoever stands in uses the right of a person who is counted here. A constant number of
queries, however many requests are asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Prefetch, Q

from approvals.models import Approval, Decision, Verdict
from approvals.people.permissions import audience_of, open_windows, says_the_same
from approvals.people.persons import persons_of
from console import roles
from console.ports import Stranded

MOST_LOOKED_AT: Final = 500  # pending requests, for the page *System*
NAMES_SHOWN: Final = 5
#: a row has four times as many columns, most of them JSON to be read
_ASKED_OF_A_ROW: Final = (
    *("status", "kind", "version", "source", "run_id", "summary", "terms", "asked", "audience", "people", "needed"),
    *("opened_at", "due_at", "ladder", "steps_climbed", "agent_owners", "requested_by_id"),
)


def stranded(approvals: Iterable[Approval], *, with_parts: bool = False) -> dict[str, Stranded]:
    """Return those of the approvals that too few people can decide as things stand, by id.

    `with_parts`: they come from `requests.with_parts`; else what is needed is read. Four queries, or seven; more only
    where some are stranded; none where nothing is pending.
    """
    pending = [approval for approval in approvals if approval.is_open]
    if not pending:
        return {}
    return _stranded(pending) if with_parts else _stranded_among([one.pk for one in pending])


def stranded_now() -> list[Stranded]:
    """Return every pending request that too few people can decide, the soonest to expire first, for *System*.

    Looks at the MOST_LOOKED_AT requests that expire first. Eight queries, more only where some are stranded.
    """
    pending = Approval.objects.filter(status=Approval.Status.PENDING).order_by("due_at", "pk")
    ids = list(pending.values_list("pk", flat=True)[:MOST_LOOKED_AT])
    found = _stranded_among(ids) if ids else {}
    return [found[pk] for pk in ids if pk in found]


@dataclass(frozen=True)
class Waiting:
    """Whom one pending request waits for, as things stand."""

    approval: Approval
    able: list[str]  # the user names of those who could decide it now, one for each person, in order
    missing: int  # how many of them are needed still
    stranded: Stranded | None


def waiting_for_whom(approval_ids: Sequence[str]) -> dict[str, Waiting]:
    """Say of each pending request who could decide it, by name; others are left out. Six queries at most."""
    return whom_of(_read(approval_ids)) if approval_ids else {}


def whom_of(rows: Sequence[Approval]) -> dict[str, Waiting]:
    """Say the same of pending requests that are read already, with their decisions and all people of these.

    Four queries at most.
    """
    if not rows:
        return {}
    people, found = _People(rows), {}
    for row in rows:
        able, missing = people.able(row), people.missing(row)
        told = Stranded(row.pk, row.summary, len(able), missing, people.sentence(row, able, missing))
        names = people.names(row, able)
        found[row.pk] = Waiting(row, names, missing, told if len(able) < missing else None)
    return found


#: requests that ask the same people in the same way stand and fall together, while nobody has voted
_ALIKE = """
SELECT min(a.id), array_agg(a.id) FROM approvals_approval a
WHERE a.status = 'pending' AND {}
GROUP BY a.audience, a.people, a.terms, a.asked -> 'audience', a.agent_owners, a.requested_by_id, a.needed,
         a.steps_climbed, jsonb_path_query_array(a.ladder, '$[*].step'),
         CASE WHEN EXISTS (SELECT FROM approvals_decision d WHERE d.approval_id = a.id) THEN a.id END
"""
_ALIKE_OF_AGENTS = _ALIKE.format("NOT a.is_seeded AND a.source = 'agent'")
_ALIKE_AMONG = _ALIKE.format("a.id = ANY(%s)")


def _alike(query: str, *given: list[str]) -> dict[str, list[str]]:
    """Return one request of each kind, and all of its kind."""
    with connection.cursor() as cursor:
        cursor.execute(query, given)
        return dict(cursor.fetchall())


def _stranded_among(ids: Sequence[str]) -> dict[str, Stranded]:
    """Look at one request of each kind; only where that is stranded at the others, for their own words."""
    alike = _alike(_ALIKE_AMONG, list(ids))
    found = _stranded(_read(list(alike))) if alike else {}
    others = [one for name in found for one in alike[name] if one != name]
    return found | (_stranded(_read(others)) if others else {})


def runs_that_nobody_can_free() -> list[str]:
    """Return the ids of agents' runs with a request that too few people can decide. Nine queries, however many."""
    alike = _alike(_ALIKE_OF_AGENTS)
    first = _stranded(_read(list(alike))) if alike else {}
    ids = [approval_id for name in first for approval_id in alike[name]]
    return list(Approval.objects.filter(pk__in=ids).order_by("pk").values_list("run_id", flat=True))


def _read(ids: Sequence[str]) -> list[Approval]:
    votes = Decision.objects.select_related("by", "on_behalf_of").order_by("number")
    return list(
        Approval.objects.filter(pk__in=ids, status=Approval.Status.PENDING)
        .prefetch_related(Prefetch("decisions", votes))
        .only(*_ASKED_OF_A_ROW)
    )


def _stranded(rows: Sequence[Approval]) -> dict[str, Stranded]:
    people = _People(rows)
    found = {}
    for row in rows:
        able, missing = people.able(row), people.missing(row)
        if len(able) < missing:
            found[row.pk] = Stranded(row.pk, row.summary, len(able), missing, people.sentence(row, able, missing))
    return found


class _People:
    """Everybody whom the approvals name, ask for or have votes of, read once."""

    def __init__(self, rows: Sequence[Approval]) -> None:
        named, groups, owners = set[str](), set[str](), set[str]()
        self._terms = {row.pk: row.given_terms for row in rows}
        for row in rows:
            terms = self._terms[row.pk]
            named |= {*row.people, *terms.people}
            groups |= {*row.audience, *terms.groups, *terms.escalate_to}
            owners |= set(row.agent_owners)
        requesters = {row.requested_by_id for row in rows if row.requested_by_id}
        meant = Q(groups__name__in=groups) | Q(username__in=named | owners) | Q(is_superuser=True)
        meant |= Q(pk__in=requesters)
        users = list(User.objects.filter(meant).distinct().order_by("username").prefetch_related("groups"))
        for user in users:
            if user.is_active:
                roles.keep_roles(user, [group.name for group in user.groups.all()])
        self._lent = set(open_windows().values_list("principal_id", flat=True))
        self._inactive = [user for user in users if not user.is_active]
        self._users = [user for user in users if user.is_active and self._comes_in(user)]
        self._owners = {user.username: user for user in users if user.username in owners}
        voters = [person for row in rows for vote in row.decisions.all() for person in (vote.by, vote.on_behalf_of)]
        self._persons = persons_of([*users, *(person for person in voters if person)])

    def able(self, row: Approval) -> set[str]:
        """Return the different people who could decide the approval now."""
        barred = self._barred(row) | {person for vote in self._votes(row) for person in self._behind(vote)}
        return {self._persons[user.pk] for user in self._named(row)} - barred

    def names(self, row: Approval, able: set[str]) -> list[str]:
        """Return a user name for each person of `able`."""
        return list(
            {
                self._persons[user.pk]: user.username
                for user in self._named(row)[::-1]
                if self._persons[user.pk] in able
            }.values()
        )[::-1]

    def missing(self, row: Approval) -> int:
        """Return how many more people must agree, or join the answer that most have given."""
        votes = self._votes(row)
        sizes = [
            len({person for vote in votes if says_the_same(vote, one) for person in self._behind(vote)[-1:]})
            for one in votes
            if one.verdict != Verdict.EDIT or "editor" not in self._terms[row.pk].four_eyes
        ]
        return max(0, row.needed - max(sizes, default=0))

    def sentence(self, row: Approval, able: set[str], missing: int) -> str:
        who = " or ".join([*(f"the role {group}" for group in row.audience), *row.people])
        left = sorted(user.username for user in self._inactive if self._was_asked(row, user))
        named = sorted(user.username for user in self._named(row) if self._persons[user.pk] not in able)
        if able:
            first = f"Only {len(able)} of {missing} people who are needed can still decide this"
        elif missing > 1:
            first = f"None of the {missing} people who are needed can decide this"
        else:
            first = "Nobody can decide this"
        shown = ", ".join(named[:NAMES_SHOWN]) + (" and others" if len(named) > NAMES_SHOWN else "")
        why = f"kept out by four eyes or by a vote of their own: {shown}" if named else "no active account fits"
        if left:
            why += f"; not active any more: {', '.join(left[:NAMES_SHOWN])}" + (
                " and others" if len(left) > NAMES_SHOWN else ""
            )
        return f"{first}: it asks {who}, and {why}. {self._next_step(row)}"

    def _next_step(self, row: Approval) -> str:
        terms = row.given_terms
        help_words = "An admin can give somebody else the role, or change the policy."
        for number, rung in enumerate(row.ladder):
            if rung["step"] == "escalate" and number >= row.steps_climbed and terms.escalate_to:
                at = datetime.fromisoformat(rung["at"]).astimezone(UTC)
                others = " and ".join(terms.escalate_to)
                return f"From {at:%-d %B %H:%M} UTC on, the role {others} is asked too. {help_words}"
        return help_words

    def _comes_in(self, user: User) -> bool:
        """Return whether the person could open the page, or somebody who can stands in for them."""
        return roles.may(user, "see") or user.pk in self._lent

    def _named(self, row: Approval) -> list[User]:
        audience = audience_of(row)
        return [user for user in self._users if audience.names(user)]

    def _was_asked(self, row: Approval, user: User) -> bool:
        return user.username in row.people or bool({group.name for group in user.groups.all()} & set(row.audience))

    def _votes(self, row: Approval) -> list[Decision]:
        return [vote for vote in row.decisions.all() if vote.for_version == row.version]

    def _behind(self, vote: Decision) -> list[str]:
        """Return the people behind a vote, whose right it was last."""
        return [self._persons[person.pk] for person in (vote.by, vote.on_behalf_of) if person]

    def _barred(self, row: Approval) -> set[str]:
        eyes, barred = self._terms[row.pk].four_eyes, set[str]()
        if "requester" in eyes and row.requested_by_id:
            barred.add(self._persons[row.requested_by_id])
        if "owner" in eyes:
            barred |= {self._persons[self._owners[name].pk] for name in row.agent_owners if name in self._owners}
        if "editor" in eyes:
            edits = [vote for vote in row.decisions.all() if vote.verdict == Verdict.EDIT]
            barred |= {person for edit in edits for person in self._behind(edit)}
        return barred
