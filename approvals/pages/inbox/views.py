"""The inbox and its saved views as pages; the list is also a fragment that htmx fetches."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from approvals.errors import InvalidChange, NoSuchApproval, NotTheirs
from approvals.pages.inbox.asked import read_asked
from approvals.pages.inbox.pane import inbox_for
from approvals.pages.inbox.saved import change_view, delete_view, save_view, saved_for
from approvals.pages.request.page import detail_of
from approvals.reading import requests
from console.fragments import page_or_fragment
from console.http import is_htmx, needs, person
from console.live.parts import is_a_part
from console.text.visible import make_visible


@is_a_part
@require_safe
@needs("see")
def inbox(request: HttpRequest) -> HttpResponse:
    """The list; beside it, on a wide screen, the first request in full."""
    user, asked = person(request), read_asked(request)
    is_filtered = "filter" in request.GET  # sent by the form, which names every field: the address says less
    if is_filtered and not is_htmx(request):
        return redirect(reverse("approvals:inbox") + asked.query())
    listed = inbox_for(user, asked)
    context: dict[str, Any] = {"inbox": listed, "is_chosen": False}
    if not is_htmx(request) and listed.page.rows:
        context |= detail_of(request, user, requests.whole_request(user, listed.page.rows[0].pk))
    response = page_or_fragment(request, "approvals/inbox.html", "approvals/_inbox_rows.html", context)
    if is_filtered:
        response["HX-Replace-Url"] = listed.here
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def views(request: HttpRequest) -> HttpResponse:
    """All saved views; a POST saves another one."""
    user = person(request)
    if request.method != "POST":
        return _views_page(request)
    name, query, is_shared = request.POST.get("name", ""), request.POST.get("query", ""), "is_shared" in request.POST
    try:
        view = save_view(owner=user, name=name, query=query, is_shared=is_shared)
    except InvalidChange as exc:
        typed = {"name": name, "query": query, "is_shared": is_shared}
        return _views_page(request, exc.http_status, fault=exc.sentence, typed=typed)
    messages.success(request, f"The view “{make_visible(view.name)}” is saved.")
    return redirect(reverse("approvals:inbox") + (f"?{view.query}" if view.query else ""))


@require_POST
@needs("see")
def change(request: HttpRequest, view_id: int) -> HttpResponse:
    """Rename, share or delete one saved view."""
    user = person(request)
    name, is_shared = request.POST.get("name", ""), "is_shared" in request.POST
    try:
        if request.POST.get("action") == "delete":
            deleted = delete_view(user=user, view_id=view_id)
            messages.success(request, f"The view “{make_visible(deleted.name)}” is deleted.")
        else:
            change_view(user=user, view_id=view_id, name=name, is_shared=is_shared)
            messages.success(request, "The view is changed.")
    except NoSuchApproval:
        if request.POST.get("action") == "delete":  # a second click on the same button
            return redirect("approvals:views")
        raise
    except NotTheirs as exc:
        return _views_page(request, exc.http_status, fault=exc.sentence)
    except InvalidChange as exc:
        return _views_page(request, exc.http_status, fault=exc.sentence, changing=view_id, changing_name=name)
    return redirect("approvals:views")


def _views_page(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    saved = saved_for(person(request))
    return render(request, "approvals/views.html", {"saved": saved, **context}, status=status)
