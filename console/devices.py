"""Browsers in which an account has signed in before: known by a signed cookie that opens nothing.

Whoever has it may still try a password when strangers have used up the tries of that account; see `console.tries`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_SALT: Final = "console.devices"
_DAYS: Final = 365
_MOST_ACCOUNTS: Final = 8  # in one browser


def device_of(request: HttpRequest, user: User | None) -> str:
    """Return the id of this browser if the account has signed in here before, else ""."""
    known = _read(request)
    return str(known["device"]) if user is not None and user.pk in known["accounts"] else ""


def remember(request: HttpRequest, user: User) -> bool:
    """Let this browser be known to the account from now on; return whether it already was.

    The cookie goes out with the answer, see `remembering`.
    """
    known = _read(request)
    was_known = user.pk in known["accounts"]
    accounts = [user.pk, *(pk for pk in known["accounts"] if pk != user.pk)][:_MOST_ACCOUNTS]
    request.__dict__["device_cookie"] = signing.dumps({"device": known["device"], "accounts": accounts}, salt=_SALT)
    return was_known


def remembering(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Middleware: send the cookie of a browser that has become known."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if "device_cookie" in request.__dict__:
            response.set_cookie(
                settings.DEVICE_COOKIE_NAME,
                request.__dict__["device_cookie"],
                max_age=_DAYS * 24 * 3600,
                secure=settings.IS_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response

    return middleware


def _read(request: HttpRequest) -> dict[str, Any]:
    try:
        known = signing.loads(request.COOKIES.get(settings.DEVICE_COOKIE_NAME, ""), salt=_SALT)
        return {"device": str(known["device"])[:40], "accounts": [int(pk) for pk in known["accounts"]]}
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        return {"device": secrets.token_hex(16), "accounts": []}
