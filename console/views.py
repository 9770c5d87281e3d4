"""The pages of the frame itself: the way in, the System page, and every error in words."""

from __future__ import annotations

import sys
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from console import health, ports, roles
from console.contracts_page import contracts_page
from console.database import AWAY
from console.forms.typed import came_from_here, held_for, hold, left_out, typed_fields
from console.fragments import page_or_fragment, part_of_page
from console.http import is_htmx, is_of_somebody_else, needs, person, sentence
from console.live.parts import is_a_part
from console.middleware import API_PREFIX, for_programs, postgres_away
from console.text.stored import asked_text

#: layer -> how the map shows it
LANES = (
    ("agent", "Agent, LangGraph", "vio", "bot"),
    ("durable", "Durable, Temporal", "info", "timer"),
    ("data", "Data, Prefect", "ok", "database"),
    ("console", "Console, Django", "warn", "users"),
)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Go to the inbox, where the work is."""
    return redirect("approvals:inbox")


@is_a_part
@require_GET
@needs("see")
def pending(request: HttpRequest) -> HttpResponse:
    """The number beside Inbox, fetched again when the inbox changes."""
    return part_of_page(request, reverse("home"), "console/_pending.html", dict)


@is_a_part
@require_GET
@needs("see")
def stuck_count(request: HttpRequest) -> HttpResponse:
    """The number beside Runs, fetched again when one comes to stand still or goes on."""
    return part_of_page(request, reverse("orchestration:stuck"), "console/_stuck.html", dict)


@is_a_part
@require_GET
@needs("see")
def notices(request: HttpRequest) -> HttpResponse:
    """What to know of parts that are away, fetched again when one comes or goes."""
    if is_htmx(request):
        health.look_again()
    return part_of_page(request, reverse("console:system"), "console/_notices.html", dict)


@require_GET
@needs("see")
def search(request: HttpRequest) -> HttpResponse:
    """What the command palette finds for `?q=`: requests and runs, by id or text."""
    words = asked_text(request.GET.get("q"), 200)
    finders = ports.palette().values() if len(words) >= 2 else ()
    return JsonResponse({"items": [item for finder in finders for item in finder.found(person(request), words)]})


@is_a_part
@require_safe
@needs("see")
def system(request: HttpRequest) -> HttpResponse:
    """How the parts are, and what they promise each other."""
    _, report = health.report()
    context: dict[str, object] = {"report": report, "is_waiting": health.is_waiting(report)}
    context["nobody_decides"] = _nobody_decides()
    runs = ports.runs()
    context["stuck_runs"] = runs.stuck_count()
    context["stranded"] = ports.requests().stranded_now()
    context["waiting_signals"] = runs.waiting_signals()
    context["agent_servers"] = runs.agent_servers()
    if not is_htmx(request):
        contracts = contracts_page()
        context |= {"contracts": contracts, "lanes": _lanes(contracts["steps"])}
        context["agent_faults"] = runs.agent_faults()
        context["may_act"] = roles.may(request.user, "act_on_run")
    return page_or_fragment(request, "console/system.html", "console/_health.html", context)


def _nobody_decides() -> str:
    return "" if health.somebody_decides() else health.NOBODY_DECIDES


def _lanes(steps: list[dict[str, str]]) -> list[dict[str, object]]:
    """Return the map of steps to layers, a column for each layer."""
    return [
        {"title": title, "tone": tone, "symbol": symbol, "steps": [s["step"] for s in steps if s["layer"] == layer]}
        for layer, title, tone, symbol in LANES
    ]


@require_http_methods(["GET", "HEAD", "POST"])
def held(request: HttpRequest) -> HttpResponse:
    """Give back the form that was sent when its session had ended; it goes when it is sent again.

    A POST holds a form while its sender proves once more who they are; `for`: where it is to be sent then, `page`: the
    page that it is on, which shows what was typed.
    """
    if not request.user.is_authenticated:
        return redirect_to_login(reverse("console:typed"))
    if request.method == "POST":
        hold(request, request.GET.get("for", ""))
        page = request.GET.get("page", "")
        back = page if url_has_allowed_host_and_scheme(page, None) else reverse("home")
        return redirect(f"{reverse('account_reauthenticate')}?{urlencode({'next': back})}")
    form = held_for(request)
    if form is None:
        return redirect("home")
    return sentence(
        request,
        200,
        title="What you typed is still here",
        detail="You were signed out when you sent this, so nothing was recorded.",
        next_step="Check it and send it again. It is shown to nobody else, and goes when you send it.",
        fields=form.fields,
        may_resend=True,
        action=form.address,
        left_out=form.left_out,
        page=form.page,
    )


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form's protection ran out, most often by a new sign-in: keep what was typed, offer to send it."""
    if is_of_somebody_else(request):
        title, detail = "Another account is signed in here now", "This page was drawn for somebody else."
        return sentence(request, 403, title=title, detail=f"{detail} Nothing was changed. Open the page again.")
    ours = came_from_here(request)
    name = request.user.get_username() if ours else ""
    response = sentence(
        request,
        403,
        title="This form had gone stale",
        detail="You signed in or out since the page was opened, so the form could not be trusted. Nothing was changed.",
        next_step="Check what you typed below and send it again" + (f", as {name}." if name else ".")
        if ours
        else "Open the page again from the console and repeat this there.",
        fields=typed_fields(request) if ours else [],
        left_out=left_out(request) if ours else [],
        may_resend=ours,
    )
    if ours and is_htmx(request):
        response["X-CSRFToken"] = get_token(request)  # forms.js puts it into the page, which stays as it is
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The address, a header or the form is malformed: often found before any endpoint or page was."""
    if request.path.startswith(API_PREFIX):
        return for_programs(400)
    if isinstance(exception, RequestDataTooBig):
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024
        return sentence(
            request,
            400,
            title="This is too much for one form",
            detail=f"A form takes at most {most:,} KiB. Nothing was changed.",
            next_step="Go back, where what you typed still is, and shorten it.",
        )
    return sentence(
        request,
        400,
        title="The request could not be read",
        detail="Something in the address or the form is malformed. Nothing was changed.",
        next_step="Go back and try again from the page's own links.",
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return sentence(
        request,
        403,
        title="Your account may not do this",
        detail="None of your roles allows it.",
        next_step="Ask an admin to add the role you need to your account.",
        home=roles.may(request.user, "see"),
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return sentence(
        request,
        404,
        title="There is nothing here",
        detail="The address names nothing, or something that you may not see.",
        next_step="Look for it in the inbox or in the list of runs; their search takes any id.",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Something broke. Django calls this inside its `except` block, so the cause can still be asked for."""
    cause = sys.exc_info()[1]
    if isinstance(cause, AWAY):
        return postgres_away(request, cause)
    return sentence(
        request,
        500,
        title="Something broke on our side",
        detail="The error was written to the log of the web process. Nothing half-done was kept: "
        "a change is recorded whole or not at all.",
        next_step="Go back and try once more. If it happens again, tell an admin the time and the address.",
        fields=typed_fields(request),
    )
