"""What somebody typed into a form that could not be taken, so that no page throws it away.

A form that arrives after its session ended is held in the browser's new session, for the account that had typed it.
Who that is, says a cookie of ours that outlives the session: a form whose CSRF token still fits was drawn since the
last sign-in in this browser. It is given back to that account only, and goes when it is sent or somebody else signs in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.exceptions import BadRequest, DisallowedHost, SuspiciousOperation
from django.core.signing import BadSignature, TimestampSigner
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.request import RawPostDataException
from django.http.response import HttpResponseBase
from django.urls import reverse

from console.database import AWAY

_PROTECTION: Final = "csrfmiddlewaretoken"
#: of accounts, by the exact names of our forms: whatever else has such a word in its name is typed like anything
_PASSWORDS: Final = frozenset(
    ("password", "password1", "password2", "oldpassword", "old_password", "new_password1", "new_password2")
)
NEVER_SHOWN: Final = _PASSWORDS | {_PROTECTION}
#: what a form carries for its own sake: sent again, and no words of the person
_CARRIED: Final = frozenset(
    (
        *("again", "answering", "base", "cursor", "digest", "draft", "item", "key", "query", "secret_fields"),
        *("shown", "version"),
    )
)
_HELD: Final = "held_form"  # in the session
_TYPIST: Final = "typist"  # the cookie
_REMEMBERED: Final = 30 * 86_400  # seconds


@dataclass(frozen=True)
class TypedField:
    """One field of a form as it was sent."""

    name: str
    value: str

    @property
    def is_long(self) -> bool:
        return "\n" in self.value or len(self.value) > 80

    @property
    def is_carried(self) -> bool:
        """Return whether the form put it there, so that it is sent again but not shown."""
        return self.name in _CARRIED


@dataclass(frozen=True)
class HeldForm:
    """A form that could not be taken, for the account that had typed it."""

    address: str
    fields: list[TypedField]
    left_out: list[str]  # names of the secrets that were typed; with any, it cannot be sent as it stands
    page: str  # the path where its form is

    def value(self, name: str) -> str:
        """Return the first value of this name, "" without one."""
        return next((field.value for field in self.fields if field.name == name), "")


def typed_fields(request: HttpRequest) -> list[TypedField]:
    """Return the fields that were sent, whole, without secrets."""
    sent = _sent(request)
    secret = _secrets(sent) | {_PROTECTION}
    return [TypedField(name, value) for name, value in sent if name not in secret]


def left_out(request: HttpRequest) -> list[str]:
    """Return the names of the secrets that were typed: `typed_fields` is not all of the form then."""
    sent = _sent(request)
    secret = _secrets(sent)
    return [name for name, value in sent if name in secret and value]


def _secrets(sent: list[tuple[str, str]]) -> set[str]:
    """Return the names of what is shown to nobody: passwords, and what the form itself calls secret."""
    return {value for name, value in sent if name == "secret_fields"} | _PASSWORDS


def _sent(request: HttpRequest) -> list[tuple[str, str]]:
    if request.method != "POST":
        return []
    try:
        return [(name, str(value)) for name, values in request.POST.lists() for value in values]
    except (MultiPartParserError, RawPostDataException, OSError, SuspiciousOperation, BadRequest):
        return []  # what cannot be read cannot be given back


def came_from_here(request: HttpRequest) -> bool:
    """Return whether one of our own pages sent the form. A stranger's form is never offered to be sent again."""
    source = _split(request.headers.get("Origin") or request.headers.get("Referer") or "")
    return source is not None and source.netloc == _host(request)


def page_before(request: HttpRequest) -> str:
    """Return the path of our own page that the form was sent from, "/" when that is not known."""
    before = _split(request.headers.get("Referer", ""))
    if before is None or before.netloc != _host(request):
        return reverse("home")
    return before.path + (f"?{before.query}" if before.query else "")


def _host(request: HttpRequest) -> str | None:
    """Return the host that was asked, `None` for one that is not ours: the refusal of it asks this too."""
    try:
        return request.get_host()
    except DisallowedHost:
        return None


def _split(address: str) -> SplitResult | None:
    """Return the parts of an address that a header names, `None` when it is none, such as `http://[`."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def hold(request: HttpRequest, address: str = "") -> bool:
    """Keep the sent form for who had typed it; return whether it is kept. `address`: where it is to be sent."""
    owner = request.user.pk or _typist(request)
    fields = typed_fields(request)
    if owner is None or not fields:
        return False
    kept = [[field.name, field.value] for field in fields]
    request.session[_HELD] = {
        "by": owner,
        "address": address or request.get_full_path(),
        "fields": kept,
        "left_out": left_out(request),
        "page": page_before(request),
    }
    return True


def held_for(request: HttpRequest, address: str = "") -> HeldForm | None:
    """Return the form that is held for who is signed in, if it belongs to the address. Anybody else's is dropped."""
    held: dict[str, Any] | None = request.session.get(_HELD)
    if held is None or not request.user.is_authenticated:
        return None
    if held["by"] != request.user.pk:
        del request.session[_HELD]
        return None
    if address and held["address"] != address:
        return None
    fields = [TypedField(name, value) for name, value in held["fields"]]
    return HeldForm(held["address"], fields, held.get("left_out", []), held.get("page", "/"))


def remember_typist(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Any:
    """Middleware: note in a signed cookie whose forms this browser shows; drop a held form once it was sent."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        session = request.session
        if not session.accessed:  # nobody asked who this is: a file, or a program
            return response
        try:
            user_id = session.get(SESSION_KEY)
            held = session.get(_HELD)
            if held and request.method == "POST" and held["address"] == request.get_full_path() and user_id:
                del session[_HELD]
        except AWAY:
            return response
        if user_id and _typist(request) != int(user_id):
            value = TimestampSigner(salt=_TYPIST).sign(user_id)
            response.set_cookie(
                _TYPIST,
                value,
                max_age=_REMEMBERED,
                httponly=True,
                samesite="Lax",
                secure=settings.SESSION_COOKIE_SECURE,
            )
        return response

    return middleware


def _typist(request: HttpRequest) -> int | None:
    """Return the id of the account that signed in last in this browser, `None` when the cookie does not say."""
    try:
        return int(TimestampSigner(salt=_TYPIST).unsign(request.COOKIES.get(_TYPIST, ""), max_age=_REMEMBERED))
    except (BadSignature, ValueError):
        return None
