"""The page of one request: a plain page, of which htmx fetches the parts that changed."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from approvals import services
from approvals.errors import (
    ApprovalError,
    NoSuchApproval,
    NotKnown,
    NotRecorded,
)
from approvals.pages.inbox.asked import read_asked
from approvals.pages.request.forms import DecisionForm
from approvals.pages.request.page import DecisionRefusal, approval_page
from approvals.reading import requests
from approvals.reading.first_shown import shown_at
from console.database import AWAY
from console.forms.typed import typed_fields
from console.http import is_htmx, needs, person, sentence, signed_in_at
from console.live.parts import is_a_part
from console.text.stored import can_be_kept


@is_a_part
@require_safe
@needs("see")
def approval(request: HttpRequest, approval_id: str) -> HttpResponse:
    """One request, with the list beside it on a wide screen."""
    user = person(request)
    return approval_page(request, user, approval_id)


@require_POST
@needs("see")
def decide(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Take one verdict. Refusals come back with the page as it now is and with what was typed."""
    user = person(request)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        refusal = DecisionRefusal(422, "The form was incomplete. Read the request again, then decide.", request)
        return approval_page(request, user, approval_id, refusal)
    try:
        given = form.to_answer(requests.answer_form_of(approval_id) if form.is_respond else None)
        recorded = services.decide_for_sure(
            approval_id=approval_id,
            reviewer=user,
            given=given,
            circumstances=services.Circumstances(
                channel="page",
                signed_in_at=signed_in_at(request),
                shown_at=shown_at(form.cleaned_data["shown"], approval_id, given.version, user),
            ),
        )
    except NoSuchApproval:
        raise
    except NotKnown as exc:
        return _not_known(request, exc.sentence, approval_id, form.cleaned_data["key"])
    except ApprovalError as exc:
        if isinstance(exc, NotRecorded) and is_htmx(request):  # the page stays, with its key and all that was typed
            return sentence(request, exc.http_status, title="Your decision was not recorded", detail=exc.sentence)
        refusal = DecisionRefusal(exc.http_status, exc.sentence, request, field=exc.field)
    else:
        return _decided(request, user, approval_id, was_cut_off=recorded.was_cut_off)
    return approval_page(request, user, approval_id, refusal)


@require_safe
def find_out(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Tell whether the decision under `?key=` was recorded; while the database is away, try again by itself."""
    try:
        return _found_out(request, approval_id)
    except (*AWAY, NotKnown):  # the guard of the view inside asks the database too
        return _not_known(request, "The database is still away. Whether your decision was recorded is not known yet.")


@needs("see")
def _found_out(request: HttpRequest, approval_id: str) -> HttpResponse:
    user, key = person(request), request.GET.get("key", "")
    found = requests.whole_request(user, approval_id)
    if not key or not can_be_kept(key):
        raise Http404
    if services.find_recorded(approval_id=found.pk, reviewer=user, key=key) is None:
        messages.error(request, "Your decision was not recorded. Read the request again, then decide.")
    else:
        messages.success(request, "Your decision is recorded.")
    return redirect("approvals:approval", approval_id)


def _decided(request: HttpRequest, user: User, approval_id: str, *, was_cut_off: bool) -> HttpResponse:
    if is_htmx(request):
        return approval_page(request, user, approval_id, is_answered=True)
    broke = "The connection to the database broke just then. " if was_cut_off else ""
    messages.success(request, f"{broke}Your decision is recorded.")
    return redirect(reverse("approvals:approval", args=[approval_id]) + read_asked(request).query())


def _not_known(request: HttpRequest, words: str, approval_id: str = "", key: str = "") -> HttpResponse:
    """Say that nobody knows yet. Sending again and finding out are both safe: the key makes them the same decision."""
    sent = request.method == "POST"
    link = f"{reverse('approvals:find_out', args=[approval_id])}?{urlencode({'key': key})}" if sent and key else ""
    again = "Click again in a moment: it counts once, and shows what became of the first click."
    response = sentence(
        request,
        503,
        title="We do not know yet",
        detail=f"{words} {again}" if is_htmx(request) else words,
        next_step="Find out, or send it again: both are safe, the same decision counts once."
        if sent
        else "This page finds out by itself as soon as the database is back.",
        retry=not sent,
        fields=typed_fields(request),
        may_resend=sent,
        link=link,
        link_text="Find out whether it was recorded",
    )
    response["Retry-After"] = "5"
    return response
