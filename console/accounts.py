"""How people get in: an admin makes the account, nobody signs up, and there is one sign-in for all doors.

Every password that is typed, to sign in, to sign in again or to change it, goes through `AccountAdapter.authenticate`.
"""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from console import devices, tries
from console.callers import address_of

STOPPED = "signin_wait_seconds"  # on the request: no try was made, and this long none will be


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter with sign-up closed, tries counted, and sign-ins on the record."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_safe_url(self, url: str | None) -> bool:
        try:
            return bool(super().is_safe_url(url))
        except ValueError:  # no address at all, such as `http://[`
            return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> User | None:
        """Return whose password this is, `None` when nobody's. Raises ValidationError when there were too many tries.

        On retry: each call is a try that counts until it is right.
        """
        begun = tries.begin(request, str(credentials.get("username") or ""))
        if begun.wait_seconds:
            request.__dict__[STOPPED] = begun.wait_seconds
            raise ValidationError(
                "Too many tries with a wrong password. Wait %(time)s, then try again; nothing was looked at meanwhile.",
                params={"time": tries.words(begun.wait_seconds)},
            )
        user: User | None = super().authenticate(request, **credentials)
        if user is None:
            tries.refuse(begun, "wrong name or password")
        elif not user.is_active:
            tries.refuse(begun, "the account is disabled")
        else:
            request.__dict__["refused_before"] = tries.accept(begun)
        return user

    def login(self, request: HttpRequest, user: User) -> None:
        """Sign in and record it, both or neither."""
        with transaction.atomic():
            super().login(request, user)
            was_known = devices.remember(request, user)
            tries.record(user.username, "account.signed_in", user, _where(request) | {"known_device": was_known})

    def logout(self, request: HttpRequest) -> None:
        """Sign out and record it, both or neither."""
        user = request.user if isinstance(request.user, User) else None  # asked before the session is gone
        with transaction.atomic():
            super().logout(request)
            if user is not None:
                tries.record(user.username, "account.signed_out", user, {"from": address_of(request)})


def signed_in_again(request: HttpRequest, user: User) -> None:
    """Record that somebody proved who they are once more."""
    tries.record(user.username, "account.signed_in_again", user, _where(request))


def _where(request: HttpRequest) -> dict[str, Any]:
    return {"from": address_of(request), "refused_before": request.__dict__.get("refused_before", 0)}
