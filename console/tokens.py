"""Keys for the JSON API. Only their SHA-256 is stored; a token is as strong as 256 random bits."""

from __future__ import annotations

import hashlib
import secrets

from django.contrib.auth.models import User
from django.contrib.postgres.aggregates import ArrayAgg
from django.db.models import Value

from console import roles
from console.acting import acting_as
from console.clock import DatabaseNow, database_now
from console.models import ApiToken


def create_token(*, owner: User, label: str = "") -> str:
    """Make a token for the user and return it; it cannot be shown again."""
    token = f"sb_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(owner=owner, digest=_digest(token), label=label)
    return token


def revoke_tokens(*, owner: User) -> int:
    """Revoke all tokens of the user; return how many were still valid."""
    return ApiToken.objects.filter(owner=owner, revoked_at=None).update(revoked_at=database_now())


def owner_of(token: str, address: str = "") -> User | None:
    """Return the active user whom the token belongs to, `None` when it is unknown, revoked or its owner disabled.

    The owner's roles come with it, in the one query. `address`: the caller's, kept with the token's first use.
    """
    found = (
        ApiToken.objects.select_related("owner")
        .annotate(groups=ArrayAgg("owner__groups__name", default=Value([])))
        .filter(digest=_digest(token), revoked_at=None, owner__is_active=True)
        .first()
    )
    if found is None:
        return None
    roles.keep_roles(found.owner, found.groups)
    owner: User = found.owner
    if found.first_used_at is None:
        _note_first_use(found, address)
    return owner


def _note_first_use(token: ApiToken, address: str) -> None:
    """Keep when and from where a token was first used; the database records it. A second caller changes nothing."""
    with acting_as(token.owner.username):
        ApiToken.objects.filter(pk=token.pk, first_used_at=None).update(
            first_used_at=DatabaseNow(), first_used_from=address
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
