"""Keys for the JSON API. Only their SHA-256 is stored; a token is as strong as 256 random bits."""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from django.contrib.auth.models import User
from django.db import connection

from console import planned_once, roles
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
    names, sql = _owner_sql()
    with planned_once.cursor() as cursor:
        cursor.execute(sql, [_digest(token)])
        found = cursor.fetchone()
    if found is None:
        return None
    token_id, first_used_at, groups, *values = found
    owner = User.from_db(connection.alias, names, values)
    roles.keep_roles(owner, groups)
    if first_used_at is None:
        _note_first_use(token_id, owner, address)
    return owner


@cache
def _owner_sql() -> tuple[list[str], str]:
    """Return the names of an account's columns, and the statement: it stands in the path of every call, so it is kept.

    Django would put it together anew each time, which takes longer than PostgreSQL takes to answer it.
    """
    fields = User._meta.concrete_fields
    columns = ", ".join(f'owner."{field.column}"' for field in fields)
    sql = (
        "SELECT token.id, token.first_used_at, ARRAY("
        "SELECT g.name FROM auth_user_groups of JOIN auth_group g ON g.id = of.group_id WHERE of.user_id = owner.id"
        f"), {columns} FROM console_apitoken token JOIN auth_user owner ON owner.id = token.owner_id"
        " WHERE token.digest = %s AND token.revoked_at IS NULL AND owner.is_active"
    )
    return [field.attname for field in fields], sql


def _note_first_use(token_id: int, owner: User, address: str) -> None:
    """Keep when and from where a token was first used; the database records it. A second caller changes nothing."""
    with acting_as(owner.username):
        ApiToken.objects.filter(pk=token_id, first_used_at=None).update(
            first_used_at=DatabaseNow(), first_used_from=address
        )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
