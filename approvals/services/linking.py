"""Say that accounts are one person, or are not: never by one person alone, for four eyes are counted by it.

Who holds the machine changes links; Django's own admin is the only door. The database writes what came of it.
"""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import InvalidChange, NotTheirs
from approvals.models import AccountPerson, LinkChange
from approvals.people.persons import accounts_of, persons_of
from approvals.record import audit
from console.clock import DatabaseNow
from console.live.announce import announce
from console.text.stored import text_fault

REASON_LIMIT: Final = 300  # characters
_NAME_LIMIT: Final = 150


def propose_link(*, user: User, person: str, reason: str, by: User) -> LinkChange:
    """Ask for an account to be linked to a person, or to have no link when `person` is empty.

    Nothing changes until somebody else has confirmed it. `person`: a name on one line, at most 150 characters, spaces
    made single. `reason`: at most 300 characters. Asked again while it is open, the same wish is the same row. Raises
    NotTheirs when `by` is no superuser, InvalidChange for what would change nothing or cannot be taken.
    """
    _check_trusted(by)
    person, reason = " ".join(person.split()), reason.strip()
    if not reason:
        raise InvalidChange("reason", "Say why; who confirms it reads this.")
    if fault := text_fault(reason, REASON_LIMIT):
        raise InvalidChange("reason", fault)
    if len(person) > _NAME_LIMIT or not person.isprintable():
        raise InvalidChange("person", f"A name of at most {_NAME_LIMIT} characters, on one line.")
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        held = AccountPerson.objects.filter(user=user).values_list("person", flat=True).first()
        if (held or "") == person:
            words = f"The account is linked to {person} already." if person else "The account has no link."
            raise InvalidChange("person", words)
        known = LinkChange.objects.filter(user=user, person=person, made_by=by, settled_at=None).first()
        if known is not None:
            return known
        made = LinkChange.objects.create(user=user, person=person, reason=reason, made_by=by)
        _record(made, by, "person.link_proposed")
    return made


def confirm_link(*, change_id: int, by: User) -> LinkChange:
    """Make the change that somebody else wanted. A second click changes nothing.

    `by` is neither the person who wanted it, nor who the account belongs to, before or after. Accounts with the same
    address go along when one without a link is linked, so that linking never takes apart what was one person. Raises
    NotTheirs, also for what is not there, and InvalidChange when it was taken back.
    """
    with transaction.atomic():
        change = _locked(change_id, by)
        _check_another(change, by)
        if change.is_confirmed:
            return change
        if change.settled_at is not None:
            raise InvalidChange("person", "It was taken back, so there is nothing to confirm.")
        _apply(change)
        _settle(change, by, is_confirmed=True)
        _record(change, by, "person.link_confirmed")
        announce("inbox")
    return change


def drop_link(*, change_id: int, by: User) -> LinkChange:
    """Take a change back that nobody has confirmed; one that is settled stays as it is, so a second click is safe.

    Raises NotTheirs, also for what is not there.
    """
    with transaction.atomic():
        change = _locked(change_id, by)
        if change.settled_at is None:
            _settle(change, by, is_confirmed=False)
            _record(change, by, "person.link_dropped")
    return change


def _check_trusted(by: User) -> None:
    if not (by.is_active and by.is_superuser):
        raise NotTheirs("Only who holds this machine, a superuser, links accounts.")


def _locked(change_id: int, by: User) -> LinkChange:
    _check_trusted(by)
    rows = LinkChange.objects.select_for_update(of=("self",)).select_related("user", "made_by")
    change = rows.filter(pk=change_id).first()
    if change is None:
        raise NotTheirs("There is no such change.")
    return change


def _check_another(change: LinkChange, by: User) -> None:
    persons = persons_of([by, change.made_by, change.user])
    named = set(AccountPerson.objects.filter(person=change.person).values_list("user_id", flat=True))
    if by.pk in named or persons[by.pk] in (persons[change.made_by_id], persons[change.user_id]):
        raise NotTheirs("Somebody else confirms it: neither who wanted it nor whose accounts they are.")


def _apply(change: LinkChange) -> None:
    if not change.person:
        AccountPerson.objects.filter(user=change.user).delete()
        return
    is_linked = AccountPerson.objects.filter(user=change.user).exists()
    for account in [change.user_id] if is_linked else sorted(accounts_of(change.user)):
        AccountPerson.objects.update_or_create(user_id=account, defaults={"person": change.person})


def _settle(change: LinkChange, by: User, *, is_confirmed: bool) -> None:
    LinkChange.objects.filter(pk=change.pk).update(settled_by=by, settled_at=DatabaseNow(), is_confirmed=is_confirmed)
    change.refresh_from_db()


def _record(change: LinkChange, by: User, kind: str) -> None:
    body = {
        "account": change.user.username,
        "person": change.person,
        "reason": change.reason,
        "made_by": change.made_by.username,
    }
    audit.record(actor=by.username, kind=kind, subject=f"account:{change.user_id}", body=body)
