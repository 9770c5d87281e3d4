"""People, not accounts: who is behind an account, so that a second account is no second pair of eyes.

The same person: accounts linked by `AccountPerson`, else accounts with the same e-mail address (letter case aside),
else the account alone. The functions take several users at once, because rules compare several people.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.db.models import Q

from approvals.models import AccountPerson


def persons_of(users: Iterable[User]) -> dict[int, str]:
    """Return the person behind each user, by the user's id. One query for all of them."""
    found = {user.pk: user for user in users}
    linked = dict(AccountPerson.objects.filter(user_id__in=found).values_list("user_id", "person"))
    return {pk: _person(user, linked.get(pk)) for pk, user in found.items()}


def person_of(user: User) -> str:
    """Return the person behind one user."""
    return persons_of([user])[user.pk]


def accounts_of(user: User) -> list[int]:
    """Return the ids of all accounts of the person behind the user, the user's own among them."""
    return accounts_of_all([user])[user.pk]


def accounts_of_all(users: Iterable[User]) -> dict[int, list[int]]:
    """Return the account ids of the person behind each user, by the user's id. Three queries at most."""
    found = {user.pk: user for user in users}
    linked = dict(AccountPerson.objects.filter(user_id__in=found).values_list("user_id", "person"))
    accounts: dict[str, list[int]] = {}
    for pk, person in AccountPerson.objects.filter(person__in=linked.values()).values_list("user_id", "person"):
        accounts.setdefault(f"person:{person}", []).append(pk)
    by_mail = Q(pk__in=[])
    for user in found.values():
        if user.pk not in linked and user.email:
            by_mail |= Q(email__iexact=user.email)
    if by_mail != Q(pk__in=[]):
        unlinked = ~Q(pk__in=AccountPerson.objects.values("user_id"))
        for same in User.objects.filter(by_mail & unlinked).only("pk", "email"):
            accounts.setdefault(_person(same, None), []).append(same.pk)
    return {pk: accounts.get(_person(user, linked.get(pk)), [pk]) for pk, user in found.items()}


def _person(user: User, linked: str | None) -> str:
    if linked is not None:
        return f"person:{linked}"
    return f"mail:{user.email.lower()}" if user.email else f"account:{user.pk}"
