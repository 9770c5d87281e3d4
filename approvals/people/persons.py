"""People, not accounts: who is behind an account, so that a second account is no second pair of eyes.

The same person: accounts linked by `AccountPerson`, else accounts with the same e-mail address (letter case aside),
else the account alone. The database gives a new account, or one with a new address, the link of the account whose
address it has; only two people part them (`approvals.services.linking`). The functions take several users at once,
because rules compare several people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.contrib.auth.models import User
from django.db.models import Q

from approvals.models import AccountPerson


def persons_of(users: Iterable[User], links: Mapping[int, str | None] | None = None) -> dict[int, str]:
    """Return the person behind each user, by the user's id. One query for all of them.

    `links`: by user id what the caller has read of links, `None` for an account that has none; these are not asked for.
    """
    found = {user.pk: user for user in users}
    known = dict(links or {})
    if unknown := found.keys() - known.keys():
        known |= AccountPerson.objects.filter(user_id__in=unknown).values_list("user_id", "person")
    return {pk: _person(user, known.get(pk)) for pk, user in found.items()}


def person_of(user: User) -> str:
    """Return the person behind one user."""
    return persons_of([user])[user.pk]


def accounts_of(user: User) -> list[int]:
    """Return the ids of all accounts of the person behind the user, the user's own among them."""
    linked = AccountPerson.objects.filter(user=user).values_list("person", flat=True).first()
    if linked is not None:
        return list(AccountPerson.objects.filter(person=linked).values_list("user_id", flat=True))
    same = Q(pk=user.pk)
    if user.email:
        same |= Q(email__iexact=user.email) & ~Q(pk__in=AccountPerson.objects.values("user_id"))
    return list(User.objects.filter(same).values_list("pk", flat=True))


def _person(user: User, linked: str | None) -> str:
    if linked is not None:
        return f"person:{linked}"
    return f"mail:{user.email.lower()}" if user.email else f"account:{user.pk}"
