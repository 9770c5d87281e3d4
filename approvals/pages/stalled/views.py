"""The lane "Decided, did not take effect", and what a person can do about one decision in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from approvals.errors import ApprovalError, NoSuchApproval
from approvals.pages.inbox.pane import InboxTab, tabs_for
from approvals.reading import stalled
from approvals.reading.stalled import StalledPage
from approvals.services.receipts import set_aside
from console import ports
from console.fragments import page_or_fragment
from console.http import is_htmx, needs, person, signed_in_at
from console.live.parts import is_a_part

_SAID: Final = {
    "deliver": "It is being sent again.",
    "set_aside": "Set aside. The reason is in the record.",
    "happened": "Noted that it happened.",
    "did_not": "Noted that it did not happen.",
}


@dataclass(frozen=True)
class ListedStalled:
    """The lane's page."""

    page: StalledPage
    tabs: list[InboxTab]
    cursor: str

    @property
    def here(self) -> str:
        return address(self.cursor)

    @property
    def more(self) -> str:
        """Return the address of the next page, empty at the end."""
        return address(self.page.next_cursor) if self.page.next_cursor else ""


@dataclass(frozen=True)
class StalledRefusal:
    """Why an action on one decision was not taken, with what was typed."""

    approval_id: str
    status: int
    words: str
    action: str
    reason: str
    field: str = ""  # the input at fault, if one is

    @property
    def settles(self) -> bool:
        return self.action in ("happened", "did_not")


def address(cursor: str = "") -> str:
    """Return the address of a page of the lane."""
    return reverse("approvals:lane") + (f"?{urlencode({'cursor': cursor})}" if cursor else "")


@is_a_part
@require_safe
@needs("see")
def show(request: HttpRequest) -> HttpResponse:
    """What is decided and has not taken effect, and why."""
    return _lane(request, request.GET.get("cursor", "")[:300])


@require_POST
@needs("see")
def act(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Do one thing about one decision: tell the run again, set it aside, or say whether its effect happened."""
    user, action, reason = person(request), request.POST.get("action", ""), request.POST.get("reason", "")
    cursor = request.POST.get("cursor", "")[:300]
    if action not in _SAID:
        raise Http404
    try:
        _act(action, approval_id, user, reason, signed_in_at(request))
    except NoSuchApproval:
        raise
    except ApprovalError as exc:
        return _lane(
            request, cursor, StalledRefusal(approval_id, exc.http_status, exc.sentence, action, reason, exc.field)
        )
    if is_htmx(request):
        response = _lane(request, cursor)
        response["X-Said"] = _SAID[action]
        return response
    messages.success(request, _SAID[action])
    return redirect(address(cursor))


def _act(action: str, approval_id: str, by: User, reason: str, since: datetime | None) -> None:
    if action == "set_aside":
        set_aside(approval_id=approval_id, by=by, reason=reason)
    elif action == "deliver":
        ports.agent_plane().redeliver(approval_id=approval_id, by=by)
    else:
        happened = action == "happened"
        ports.agent_plane().settle_unknown(
            approval_id=approval_id, by=by, happened=happened, reason=reason, signed_in_at=since
        )


def _lane(request: HttpRequest, cursor: str, refusal: StalledRefusal | None = None) -> HttpResponse:
    user = person(request)
    listed = ListedStalled(stalled.lane_page(user, cursor=cursor), tabs_for(user, "lane"), cursor)
    context: dict[str, Any] = {"listed": listed, "refusal": refusal}
    status = refusal.status if refusal else 200
    return page_or_fragment(request, "approvals/lane.html", "approvals/_lane_rows.html", context, status=status)
