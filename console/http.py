"""What every page asks of a request: who is there, may they, and how to answer them in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from allauth.account.internal.flows.login import get_authentication_records
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.urls import reverse

from console import roles
from console.forms import typed

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, P], HttpResponse]


def is_htmx(request: HttpRequest) -> bool:
    """Return whether a script asks for a part of a page, as django-htmx's middleware has read it."""
    return bool(getattr(request, "htmx", False))  # words about an error need not even that middleware


def person(request: HttpRequest) -> User:
    """Return who asks, in a view that `needs` already guards."""
    if not isinstance(request.user, User):
        raise TypeError("this view is not guarded by console.http.needs")
    return request.user


def signed_in_at(request: HttpRequest) -> datetime | None:
    """Return when the person last proved who they are in this session; `None` when the session does not say.

    By the database's clock: see `console.proofs`.
    """
    records = get_authentication_records(request, person(request))
    return datetime.fromtimestamp(records[-1]["at"], UTC) if records else None


def needs(permission: str) -> Callable[[Page[P]], Page[P]]:
    """Let the view be used only by people whose roles carry the permission; tell the others what to do."""

    def decorate(view: Page[P]) -> Page[P]:
        @wraps(view)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if not request.user.is_authenticated:
                return _signed_out(request)
            if is_of_somebody_else(request):
                return sentence(request, 409, title="Another account is signed in here now", detail=_OPEN_AGAIN)
            if not roles.may(request.user, permission):
                return not_allowed(request, permission)
            return view(request, *args, **kwargs)

        return guarded

    return decorate


def not_allowed(request: HttpRequest, permission: str) -> HttpResponse:
    """Answer 403 with the roles that would do, and lead nowhere that would answer 403 as well."""
    if not roles.roles_of(request.user):
        return no_role(request)
    return sentence(
        request,
        403,
        title="Your account may not do this",
        detail=f"This needs one of the roles: {', '.join(sorted(roles.PERMISSIONS[permission]))}.",
        next_step="Ask an admin to add the role to your account, then open this page again.",
        other_account=True,
        home=roles.may(request.user, "see"),
    )


def no_role(request: HttpRequest) -> HttpResponse:
    """Answer 403 to an account that opens nothing yet: whom to ask, and what it can do here."""
    return sentence(
        request,
        403,
        title="Your account has no role yet",
        detail="You are signed in, but everything here is for reviewers, operators and admins.",
        next_step="Ask whoever has the role admin, or the superuser who made your account, to give it a role; "
        "then open this page again.",
        other_account=True,
        own_password=True,
        home=False,
    )


def sentence(
    request: HttpRequest,
    status: int,
    *,
    title: str,
    detail: str,
    next_step: str = "",
    may_resend: bool = False,
    home: bool = True,
    **context: Any,
) -> HttpResponse:
    """Answer with a page in words; a script gets the words alone and shows them beside the page.

    `home`: offer the way to the inbox; False for who would not be let in there. `fields`: what was sent, shown so that
    nothing typed is lost; by itself all of it, when one of our own pages sent it. `may_resend`: offer it as a form to
    send again, unless secrets were typed (`left_out`): those are named, and the way leads back to the form, on `page`.
    The page asks neither the database nor the session, so that it can tell of their absence.
    """
    if is_htmx(request):
        response = HttpResponse(f"{title}. {detail}", status=status, content_type="text/plain; charset=utf-8")
        response["HX-Reswap"] = "none"  # htmx 4 swaps 4xx bodies in: what is on the page stays
    else:
        words: dict[str, Any] = {"status": status, "title": title, "detail": detail, "next_step": next_step}
        words["home"] = home
        words["fields"] = typed.typed_fields(request) if typed.came_from_here(request) else []
        if may_resend or typed.came_from_here(request):
            context.setdefault("left_out", typed.left_out(request))
        if context.get("left_out"):
            context.setdefault("page", typed.page_before(request))
            words["next_step"] = _TYPE_ANEW if may_resend else next_step
        elif may_resend:
            words |= {"may_resend": True, "csrf_token": get_token(request), "action": request.get_full_path()}
        response = HttpResponse(render_to_string("console/sentence.html", words | context), status=status)
    response["Vary"] = "HX-Request"
    return response


_TYPE_ANEW = "A secret is kept nowhere, so this is not sent again from here: type it anew in the form."
_OPEN_AGAIN = "Nothing was changed. Sign in as yourself again, or open the page again as who is signed in."


def is_of_somebody_else(request: HttpRequest) -> bool:
    """Return whether a script asks from a page that was drawn for another account than the one that is signed in."""
    drawn_for = request.headers.get("X-Drawn-For", "")
    return is_htmx(request) and bool(drawn_for) and request.user.pk is not None and drawn_for != str(request.user.pk)


def _signed_out(request: HttpRequest) -> HttpResponse:
    """Lead to the sign-in, and from there to the page or to the form that was sent, with all that was typed."""
    if is_htmx(request):
        return sentence(
            request, 401, title="You are signed out", detail="Sign in again in another tab, then repeat this."
        )
    if request.method in ("GET", "HEAD"):
        return redirect_to_login(request.get_full_path())
    return redirect_to_login(reverse("console:typed") if typed.hold(request) else typed.page_before(request))
