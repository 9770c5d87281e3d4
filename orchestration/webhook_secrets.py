"""What answers to a service account's webhooks are signed with: one secret, or two while one takes the other's place.

Until an account is given a secret of its own, its answers are signed with the installation's, which all such accounts
share. The first of its own is valid beside that one, so that the program misses nothing until it knows the new one; the
old one is retired then. With two valid there are two signatures, as Standard Webhooks provide for.

No row holds a secret: it is made of a row's salt and Django's key, so a copy of the database signs nothing. It is shown
once, to who makes it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from approvals.record import audit
from console import roles
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.models import ApiToken
from orchestration import webhook_gateway
from orchestration.errors import NoSuchService, SecretLost, SecretsAsTheyAre
from orchestration.models import WebhookSecret

MOST_VALID: Final = 2
SHOWN_AGAIN_FOR: Final = timedelta(minutes=10)  # to the click that made it, should its answer be lost
COMMAND: Final = "manage.py"
_ENDING = 6  # characters that people may see
_SALT_BYTES = 32


@dataclass(frozen=True)
class NewSecret:
    """A secret that is shown now and not again."""

    row: WebhookSecret
    secret: str  # whsec_<base64>


@dataclass(frozen=True)
class Keyring:
    """One account's valid secrets, the newest first; none while it shares the installation's."""

    account: User
    valid: tuple[WebhookSecret, ...]
    lost: frozenset[int]  # ids of those that this process cannot make any more

    @property
    def has_room(self) -> bool:
        return len(self.valid) < MOST_VALID

    @property
    def may_retire(self) -> bool:
        return len(self.valid) > 1


def keyrings() -> list[Keyring]:
    """Return the service accounts that are enabled, by name, each with its valid secrets. Two queries."""
    accounts = list(User.objects.filter(groups__name="service", is_active=True).order_by("username"))
    valid = list(_valid(accounts))
    return [_keyring(account, [one for one in valid if one.account_id == account.pk]) for account in accounts]


def keyring_of(account: User) -> Keyring:
    """Return one account's."""
    return _keyring(account, _valid([account]))


def service_of(account_id: int) -> User:
    """Return the account. Raises NoSuchService for one that is no enabled service."""
    found = User.objects.filter(pk=account_id, groups__name="service", is_active=True).first()
    if found is None:
        raise NoSuchService(NoSuchService.__doc__)
    return found


def keys_of(account: User | None) -> tuple[bytes, ...]:
    """Return what an answer to the account is signed with, the newest first. One query.

    Raises SecretLost when none of them can be made; one that can be is enough, for the program knows it.
    """
    valid = list(_valid([account])) if account is not None else []
    if not valid:
        return (webhook_gateway.shared_key(),)
    keys = tuple(_key_of(one) for one in valid if not _is_lost(one))
    if not keys:
        raise SecretLost(
            "Its webhook cannot be signed: Django's key (SIGNALBOX_SECRET_KEY) has changed since the account's secret "
            "was made. An admin makes a new secret on Team, Programs, and retires one first where there are two; the "
            "answer is then sent."
        )
    return keys


def create(*, account: User, by: User | None, form_key: str = "") -> NewSecret:
    """Make one more secret for the account and return it; it cannot be shown again.

    `by`: the admin, `None` for whoever owns the machine. `form_key`: of the click; the same one again within
    SHOWN_AGAIN_FOR gets the same secret. Raises SecretsAsTheyAre when two are valid, NoSuchService for what is none.
    """
    _check_right(by)
    who = by.username if by is not None else COMMAND
    # Digested, so that no caller's key is one of our own.
    key = hashlib.sha256(form_key.encode()).hexdigest()[:40] if form_key else secrets.token_hex(16)
    with transaction.atomic():
        _hold(account)
        made = WebhookSecret.objects.filter(form_key=key).first()
        if made is not None:
            return _shown_again(made, account, who)
        valid = list(_valid([account]))
        if len(valid) >= MOST_VALID:
            raise SecretsAsTheyAre("Two secrets are valid already. Retire the one that the program no longer uses.")
        if not valid and not _is_new(account):
            valid = [_keep_shared(account, who)]
        salt = secrets.token_bytes(_SALT_BYTES)
        secret = webhook_gateway.secret(_derived(salt))
        row = WebhookSecret.objects.create(
            account=account, salt=salt, ending=_ending(secret), created_by=who, form_key=key
        )
        row.refresh_from_db()
        body = {"account": account.username, "ending": row.ending, "beside": [one.ending for one in valid]}
        audit.record(actor=who, kind="webhook_secret.created", subject=f"account:{account.username}", body=body)
    return NewSecret(row, secret)


def retire(*, secret_id: int, by: User | None) -> WebhookSecret:
    """Sign with this one no more. The same again changes nothing.

    Raises NoSuchService for what is not there, SecretsAsTheyAre for the last one.
    """
    _check_right(by)
    who = by.username if by is not None else COMMAND
    found = WebhookSecret.objects.select_related("account").filter(pk=secret_id).first()
    if found is None:
        raise NoSuchService(NoSuchService.__doc__)
    with transaction.atomic():
        _hold(found.account)
        found.refresh_from_db()
        if found.retired_at is not None:
            return found
        if len(_valid([found.account])) < MOST_VALID:
            raise SecretsAsTheyAre("It is the account's only valid secret. Make a new one first, then retire this one.")
        WebhookSecret.objects.filter(pk=found.pk).update(retired_at=DatabaseNow(), retired_by=who)
        found.refresh_from_db()
        body = {"account": found.account.username, "ending": found.ending, "is_shared": found.is_shared}
        audit.record(actor=who, kind="webhook_secret.retired", subject=f"account:{found.account.username}", body=body)
    return found


def _check_right(by: User | None) -> None:
    if by is not None and not roles.may(by, "webhook_secrets"):
        raise NoSuchService("An admin makes and retires the secrets of service accounts.")


def _hold(account: User) -> None:
    """Keep the account for this transaction, so that no two of its secrets are changed at once."""
    User.objects.select_for_update(no_key=True).only("pk").get(pk=account.pk)


def _is_new(account: User) -> bool:
    """Return whether it never had a token, so that no program of it can know the installation's secret."""
    return not ApiToken.objects.filter(owner=account).exists()


def _keep_shared(account: User, who: str) -> WebhookSecret:
    """Keep the installation's secret as the account's first, so that it can be retired."""
    return WebhookSecret.objects.create(
        account=account,
        salt=b"",
        ending=_ending(webhook_gateway.secret()),
        created_by=who,
        form_key=f"shared-{account.pk}",
    )


def _shown_again(made: WebhookSecret, account: User, who: str) -> NewSecret:
    is_theirs = (made.account_id, made.created_by) == (account.pk, who) and not made.is_shared
    if not is_theirs or made.retired_at or database_now() - made.created_at > SHOWN_AGAIN_FOR or _is_lost(made):
        raise SecretsAsTheyAre("This was done before, and a secret is shown once. Open the page again for another one.")
    return NewSecret(made, webhook_gateway.secret(_key_of(made)))


def _valid(accounts: Iterable[User]) -> list[WebhookSecret]:
    rows = WebhookSecret.objects.filter(account__in=list(accounts), retired_at=None).select_related("account")
    return list(rows.order_by("-created_at", "-pk"))


def _keyring(account: User, valid: Iterable[WebhookSecret]) -> Keyring:
    rows = tuple(valid)
    return Keyring(account, rows, frozenset(one.pk for one in rows if _is_lost(one)))


def _is_lost(row: WebhookSecret) -> bool:
    if row.is_shared and environment().webhook_secret:  # whoever sets it tells the programs
        return False
    return _ending(webhook_gateway.secret(_key_of(row))) != row.ending


def _key_of(row: WebhookSecret) -> bytes:
    return webhook_gateway.shared_key() if row.is_shared else _derived(bytes(row.salt))


def _derived(salt: bytes) -> bytes:
    return hmac.new(settings.SECRET_KEY.encode(), b"signalbox webhook secret\0" + salt, hashlib.sha256).digest()


def _ending(secret: str) -> str:
    return secret.rstrip("=")[-_ENDING:]
