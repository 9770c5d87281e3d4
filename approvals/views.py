"""The page of one request: a plain page, of which htmx fetches the parts that changed."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from approvals import services
from approvals.detail import Refusal, approval_page, detail_of, find
from approvals.errors import (
    AlreadyClosed,
    InvalidVerdict,
    KeyReused,
    MayNotDecide,
    NoSuchApproval,
    StaleVersion,
)
from approvals.forms import DecisionForm
from approvals.inbox import inbox_for, read_asked
from approvals.shown import shown_at
from console.fragments import page_or_fragment
from console.http import is_htmx, needs, person, signed_in_at


@require_safe
@needs("see")
def inbox(request: HttpRequest) -> HttpResponse:
    """The list; beside it, on a wide screen, the first request in full."""
    user = person(request)
    listed = inbox_for(user, read_asked(request))
    context = {"inbox": listed, "is_chosen": False}
    if not is_htmx(request) and listed.page.rows:
        context |= detail_of(request, user, find(user, listed.page.rows[0].pk))
    return page_or_fragment(request, "approvals/inbox.html", "approvals/_inbox_rows.html", context)


@require_safe
@needs("see")
def approval(request: HttpRequest, approval_id: str) -> HttpResponse:
    """One request, with the list beside it on a wide screen."""
    user = person(request)
    return approval_page(request, user, find(user, approval_id))


@require_POST
@needs("see")
def decide(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Take one verdict. Refusals come back with the page as it now is and with what was typed."""
    user = person(request)
    found = find(user, approval_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        refusal = Refusal(422, "The form was incomplete. Read the request again, then decide.", request)
        return approval_page(request, user, found, refusal)
    try:
        services.decide(
            approval_id=approval_id,
            reviewer=user,
            given=form.to_answer(),
            channel="page",
            signed_in_at=signed_in_at(request),
            shown_at=shown_at(form.cleaned_data["shown"], found, user),
        )
    except NoSuchApproval as exc:
        raise Http404 from exc
    except InvalidVerdict as exc:
        refusal = Refusal(422, exc.errors[0]["message"], request, field=exc.errors[0]["path"])
    except MayNotDecide as exc:
        refusal = Refusal(403, str(exc), request)
    except (AlreadyClosed, StaleVersion, KeyReused) as exc:
        refusal = Refusal(409, str(exc), request)
    else:
        return _decided(request, user, approval_id)
    return approval_page(request, user, find(user, approval_id), refusal)


def _decided(request: HttpRequest, user: User, approval_id: str) -> HttpResponse:
    if is_htmx(request):
        return approval_page(request, user, find(user, approval_id))
    messages.success(request, "Your decision is recorded.")
    return redirect("approvals:approval", approval_id)
