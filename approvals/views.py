"""The inbox and the page of one request: plain pages, of which htmx fetches the parts that changed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.module_loading import import_string
from django.views.decorators.http import require_POST, require_safe

from approvals import selectors, services
from approvals.card import card_for
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
from approvals.models import Approval
from console.fragments import page_or_fragment
from console.http import is_htmx, needs, person


@require_safe
@needs("see")
def inbox(request: HttpRequest) -> HttpResponse:
    """The list; beside it, on a wide screen, the first request in full."""
    user = person(request)
    listed = inbox_for(user, read_asked(request))
    context: dict[str, Any] = {"inbox": listed, "is_chosen": False}
    if not is_htmx(request) and listed.page.rows:
        context |= _detail(user, selectors.approval_for(user, listed.page.rows[0].pk))
    return page_or_fragment(request, "approvals/inbox.html", "approvals/_inbox_rows.html", context)


@require_safe
@needs("see")
def approval(request: HttpRequest, approval_id: str) -> HttpResponse:
    """One request, with the list beside it on a wide screen."""
    user = person(request)
    return _approval_page(request, user, _find(user, approval_id))


@require_POST
@needs("see")
def decide(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Take one verdict. Refusals come back with the page as it now is and with what was typed."""
    user = person(request)
    if not approval_id.isprintable():
        raise Http404
    form = DecisionForm(request.POST)
    if not form.is_valid():
        refusal = Refusal(422, "The form was incomplete. Read the request again, then decide.", request)
        return _approval_page(request, user, _find(user, approval_id), refusal)
    try:
        services.decide(approval_id=approval_id, reviewer=user, given=form.answer(), channel="page")
    except NoSuchApproval as exc:
        raise Http404 from exc
    except InvalidVerdict as exc:
        refusal = Refusal(422, str(exc), request, field=exc.errors[0]["path"])
    except MayNotDecide as exc:
        refusal = Refusal(403, str(exc), request)
    except (AlreadyClosed, StaleVersion, KeyReused) as exc:
        refusal = Refusal(409, str(exc), request)
    else:
        return _decided(request, user, approval_id)
    return _approval_page(request, user, _find(user, approval_id), refusal)


class Refusal:
    """Why a decision was not taken, with what was typed; `field` names the input at fault, if one is."""

    def __init__(self, status: int, words: str, request: HttpRequest, field: str = "") -> None:
        self.status, self.words, self.field = status, words, field
        self.note = request.POST.get("note", "")


@dataclass(frozen=True)
class Looks:
    """What the page draws from a card besides its facts."""

    canonical: str
    word: str  # the state to show once it is closed: a verdict, `expired` or `withdrawn`
    next_step: int  # counted from 1: the receipt's first step that lies ahead, 0 when there is none


@dataclass(frozen=True)
class DatasetRead:
    """One dataset version that the agent had read when it asked."""

    dataset: str
    version: int
    is_current: bool


def _decided(request: HttpRequest, user: User, approval_id: str) -> HttpResponse:
    if is_htmx(request):
        return _approval_page(request, user, _find(user, approval_id))
    messages.success(request, "Your decision is recorded.")
    return redirect("approvals:approval", approval_id)


def _approval_page(request: HttpRequest, user: User, found: Approval, refusal: Refusal | None = None) -> HttpResponse:
    context = _detail(user, found) | {"refusal": refusal, "is_chosen": True}
    if not is_htmx(request):
        context["inbox"] = inbox_for(user, read_asked(request))
    status = refusal.status if refusal else 200
    return page_or_fragment(request, "approvals/inbox.html", "approvals/_approval.html", context, status=status)


def _find(user: User, approval_id: str) -> Approval:
    if not approval_id.isprintable():
        raise Http404  # PostgreSQL takes no NUL, not even to look for it
    try:
        return selectors.approval_for(user, approval_id)
    except NoSuchApproval as exc:
        raise Http404 from exc


def _detail(user: User, found: Approval) -> dict[str, Any]:
    """Return what `_approval.html` shows. Data and effects belong to other apps, which are asked by name."""
    current: dict[str, int] = import_string("dataplane.selectors.current_versions")(
        sorted({read["dataset"] for read in found.dataset_versions})
    )
    executed: dict[str, Any] = import_string("orchestration.selectors.effects_of")([found.pk])
    card = card_for(user, found)
    is_decided = found.status == Approval.Status.DECIDED and card.decisions
    ahead = [number for number, line in enumerate(card.receipt, start=1) if line.at is None]
    return {
        "card": card,
        "looks": Looks(
            canonical=bytes(found.canonical).decode(),
            word=card.decisions[-1].verdict if is_decided else found.status,
            next_step=ahead[0] if ahead else 0,
        ),
        "reads": [
            DatasetRead(read["dataset"], read["version"], current.get(read["dataset"]) == read["version"])
            for read in found.dataset_versions
        ],
        "executed": executed.get(found.pk),
        "key": secrets.token_urlsafe(16),  # a second send of this very form is the same decision
    }
