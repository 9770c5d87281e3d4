"""Which approvals a person may decide, as a condition of a query.

What `approvals.people.permissions.may_decide` says of one.

The two must agree; `tests/approvals/test_inbox_mine.py` compares them in random worlds.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.models import User
from django.db.models import BooleanField, Case, Exists, OuterRef, Q, Value, When

from approvals.models import Decision, Verdict
from approvals.people.permissions import principals_of
from approvals.people.persons import accounts_of
from console import roles


def may_be_decided_by(user: User) -> Q:
    """Return the condition for approvals that the user may decide, in their own right or for somebody else.

    A few queries for who the person is and whom they stand in for; none for each approval.
    """
    if not user.is_active:
        return Q(pk__in=[])
    accounts = accounts_of(user)
    condition = _named(user) & Q(_not(_excluded(accounts)))
    for principal in principals_of(user):
        condition |= _named(principal) & Q(_not(_excluded([*accounts, *accounts_of(principal)])))
    return condition


def _named(user: User) -> Q:
    held = sorted(roles.roles_of(user))
    keys = [f"group:{role}" for role in held] + [f"name:{user.username}"]
    asked_for_nobody = ~Q(asked__has_key="audience") | Q(asked__audience=[])
    by_policy = Q(terms__people__contains=[user.username])
    for role in held:
        by_policy |= Q(terms__groups__contains=[role]) | (_ESCALATED & Q(terms__escalate_to__contains=[role]))
    return Q(deciders__overlap=keys) & (asked_for_nobody | by_policy)


#: the step "escalate" is among those taken
_ESCALATED = (
    Q(ladder__0__step="escalate", steps_climbed__gte=1)
    | Q(ladder__1__step="escalate", steps_climbed__gte=2)
    | Q(ladder__2__step="escalate", steps_climbed__gte=3)
)


def _excluded(accounts: Sequence[int]) -> Q:
    """Return the condition for four eyes, or an earlier vote, to stand against the people behind the accounts."""
    mine = Decision.objects.filter(Q(by__in=accounts) | Q(on_behalf_of__in=accounts), approval=OuterRef("pk"))
    edits, votes = mine.filter(verdict=Verdict.EDIT), mine.filter(for_version=OuterRef("version"))
    owned = Q(pk__in=[])
    for name in User.objects.filter(pk__in=accounts).order_by("pk").values_list("username", flat=True):
        owned |= Q(agent_owners__contains=[name])
    return (
        (Q(requested_by__in=accounts) & (_eyes("requester") | ~Q(terms__has_key="four_eyes")))
        | (_eyes("owner") & owned)
        | (Q(version__gt=1) & _eyes("editor") & Exists(edits))
        # Only these can be pending with a vote for the current version.
        | ((Q(needed__gt=1) | Q(version__gt=1)) & Exists(votes))
    )


def _eyes(which: str) -> Q:
    return Q(terms__four_eyes__contains=[which])


def _not(condition: Q) -> Case:
    """Negate a condition that may be unknown, for a missing value: what is not known to hold does not."""
    return Case(When(condition, then=Value(False)), default=Value(True), output_field=BooleanField())
