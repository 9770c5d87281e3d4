"""Two rules for every answer: pages are not kept by anybody, and an absent database is told in words.

Middleware sees no exception of a view: Django turns it into an answer one layer further in. What can be
caught comes through `process_exception`; what fails in another middleware (the session, for one) reaches
`console.views.server_error`, which calls the same `postgres_away`.
"""

from __future__ import annotations

import codecs
import logging
from collections.abc import Callable
from http.client import responses

from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase

from console import problems
from console.database import AWAY, NOT_KEPT
from console.forms.typed import typed_fields
from console.http import sentence
from console.refusals import NotFound, Refused
from console.text.stored import storable

logger = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponseBase]
API_PREFIX = "/api/"


#: what no page of ours asks of a browser, so that nothing put into one can; a name that Chromium does not know it
#: complains of on every page
_POLICY = ", ".join(
    f"{name}=()"
    for name in (
        *("accelerometer", "autoplay", "camera", "display-capture"),
        *("encrypted-media", "fullscreen", "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts"),
        *("magnetometer", "microphone", "midi", "payment", "picture-in-picture", "publickey-credentials-get"),
        *("screen-wake-lock", "serial", "usb", "xr-spatial-tracking"),
    )
)


def hardened(get_response: GetResponse) -> GetResponse:
    """Tell browsers with every answer what they need not allow, and to stay with https where that is how we are met."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response["Permissions-Policy"] = _POLICY
        response["Cross-Origin-Resource-Policy"] = "same-origin"
        if settings.HSTS_SECONDS:  # whoever ends https passes it on; over plain http it means nothing
            response["Strict-Transport-Security"] = f"max-age={settings.HSTS_SECONDS}"
        return response

    return middleware


def forms_in_utf8(get_response: GetResponse) -> GetResponse:
    """Refuse in words a form that says that it is written otherwise; see `console.utf8`."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        named = (request.content_params or {}).get("charset", "utf-8")
        if request.content_type not in _FORMS or request.method in ("GET", "HEAD") or _is_utf8(named):
            return get_response(request)
        words = f"The form says that it is written in {storable(named)[:40]}; forms are read as UTF-8."
        if request.path.startswith(API_PREFIX):
            return problems.problem_response(problems.Problem(415, "Not understood", f"{words} Send JSON instead."))
        detail = f"{words} Nothing was changed."
        return sentence(request, 415, title="The form could not be read", detail=detail, next_step="Send it as UTF-8.")

    return middleware


_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


def _is_utf8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name in ("utf-8", "ascii")
    except (LookupError, ValueError):  # ValueError: a NUL in the name
        return False


def no_store(get_response: GetResponse) -> GetResponse:
    """Keep pages and answers out of every cache: they show what one person may see at one moment."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "no-store"
        return response

    return middleware


def errors_in_words(get_response: GetResponse) -> GetResponse:
    """Answer in words when Postgres is away while a view works, and where a form's address is opened like a page."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.status_code != 405 or request.path.startswith(API_PREFIX):
            return response
        told = sentence(
            request,
            405,
            title="There is no page at this address",
            detail="A form is sent here; the address alone shows nothing. Nothing was changed.",
            next_step="Open the page that the form is on from the inbox.",
        )
        told["Allow"] = response["Allow"]
        return told

    def process_exception(request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, AWAY):
            return postgres_away(request, exception)
        if isinstance(exception, NOT_KEPT):
            return not_kept(request, exception)
        return refused(request, exception) if isinstance(exception, Refused) else None

    middleware.process_exception = process_exception  # type: ignore[attr-defined]  # how Django finds it
    return middleware


def problems_for_programs(get_response: GetResponse) -> GetResponse:
    """Answer programs in their form also where no endpoint has: unknown addresses, wrong methods, our own errors."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        is_page = response.status_code >= 400 and "json" not in response.get("Content-Type", "")
        if not is_page or not request.path.startswith(API_PREFIX):
            return response
        told = for_programs(response.status_code)
        if response.has_header("Allow"):
            told["Allow"] = response["Allow"]
        return told

    return middleware


def for_programs(status: int) -> JsonResponse:
    """Return an answer in the form of programs, for one that no endpoint has given."""
    detail = _FOR_PROGRAMS.get(status, "The request was not answered.")
    return problems.problem_response(problems.Problem(status, responses.get(status, "Refused"), detail))


_FOR_PROGRAMS = {
    400: "The address, a header or the body is malformed, or holds too much. Nothing was changed.",
    404: "There is nothing at this address; /api/v1/openapi.json lists what there is.",
    405: "This address does not take this method; see Allow.",
    500: "Something broke on our side. A change is recorded whole or not at all.",
}


def not_kept(request: HttpRequest, exception: BaseException) -> HttpResponse:
    """Say that something sent can be kept by no database; keep the rest of what was typed."""
    logger.info("%s for %s %s", type(exception).__name__, request.method, request.path)
    return sentence(
        request,
        422,
        title="Something in it cannot be kept",
        detail="It holds a character that no database keeps, such as NUL or half of one, or a number or a moment "
        "beyond all bounds. Nothing was changed.",
        next_step="Take it out and send the rest again.",
        fields=typed_fields(request),
    )


def refused(request: HttpRequest, exception: Refused) -> HttpResponse:
    """Tell in words what a page could not do, where the page does not draw itself again to say it."""
    if isinstance(exception, NotFound):
        return response_for_exception(request, Http404(str(exception)))
    logger.info("%s for %s %s", type(exception).__name__, request.method, request.path)
    return sentence(
        request,
        exception.http_status,
        title=exception.title,
        detail=exception.sentence,
        fields=typed_fields(request),
    )


def postgres_away(request: HttpRequest, exception: BaseException) -> HttpResponse:
    """Say that Postgres is away, what still works, and that the page tries again; keep what was typed."""
    logger.warning("postgres is away for %s %s: %s", request.method, request.path, type(exception).__name__)
    if request.path.startswith(API_PREFIX):
        return problems.problem_response(problems.database_away(request))
    changes = request.method not in ("GET", "HEAD")
    response = sentence(
        request,
        503,
        title="The database is away",
        detail="Signalbox cannot reach PostgreSQL right now. "
        + ("It is not certain that this was recorded. " if changes else "")
        + "Runs that wait keep waiting, and nothing that was decided before is lost.",
        next_step="Send it again as soon as the database is back; a second click changes nothing twice."
        if changes
        else "This page tries again by itself every five seconds.",
        retry=not changes,
        fields=typed_fields(request),
        may_resend=changes,
    )
    response["Retry-After"] = "5"
    return response
