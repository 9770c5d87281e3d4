"""Who is changing accounts right now: told to the database, whose triggers write the entries of the record.

A page or an API call acts as whoever is signed in, a command as `manage.py <command>`. What comes past Django, SQL by
hand, acts as the database's role.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_request: ContextVar[HttpRequest | None] = ContextVar("_request", default=None)
_named: ContextVar[str] = ContextVar("_named", default="")

#: The tables whose changes are recorded by triggers, as Django writes them.
_CHANGE = re.compile(
    r'(INSERT INTO|UPDATE|DELETE FROM) "(auth_user|auth_user_groups|auth_user_user_permissions|auth_group'
    r'|console_apitoken|approvals_accountperson)"'
)


def acting(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Middleware: what the request changes is changed by whoever is signed in."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        token = _request.set(request)
        try:
            return get_response(request)
        finally:
            _request.reset(token)

    return middleware


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Let changes inside the block be those of the named account or part."""
    token = _named.set(name)
    try:
        yield
    finally:
        _named.reset(token)


def actor() -> str:
    """Return who acts; "" when only the database can tell."""
    if _named.get():
        return _named.get()
    request = _request.get()
    if request is not None:
        user = getattr(request, "user", None)
        return user.get_username() if user is not None and user.is_authenticated else "nobody signed in"
    return _command(sys.argv)


def _command(argv: list[str]) -> str:
    is_command = len(argv) > 1 and Path(argv[0]).name in ("manage.py", "django-admin", "__main__.py")
    return f"manage.py {argv[1]}" if is_command else ""


def tell_database(connection: Any, **kwargs: Any) -> None:
    """On every connection that Django makes: see to it that changes of accounts say whose they are."""
    if _tell not in connection.execute_wrappers:
        connection.execute_wrappers.append(_tell)


def _tell(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    if not isinstance(sql, str) or not _CHANGE.match(sql):
        return execute(sql, params, many, context)
    connection = context["connection"]
    if not connection.in_atomic_block:  # what is told must last until the change, and no longer
        with transaction.atomic(using=connection.alias):
            return _tell(execute, sql, params, many, context)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('signalbox.actor', %s, true)", [actor()])
    return execute(sql, params, many, context)
