"""A person's views of the list of runs: saved from the list, deleted, and brought back."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from approvals.errors import InvalidChange
from console.http import needs, person
from console.text.visible import make_visible
from orchestration import run_views


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def views(request: HttpRequest) -> HttpResponse:
    """All views of whoever asks; a POST saves another one."""
    if request.method != "POST":
        return _page(request)
    name, query = request.POST.get("name", ""), request.POST.get("query", "")
    try:
        view = run_views.save(owner=person(request), name=name, query=query)
    except InvalidChange as exc:
        return _page(request, exc.http_status, fault=exc.sentence, typed={"name": name, "query": query})
    messages.success(request, f"The view “{make_visible(view.name)}” is saved.")
    return redirect(reverse("orchestration:runs") + (f"?{view.query}" if view.query else ""))


@require_POST
@needs("see")
def change(request: HttpRequest, view_id: int) -> HttpResponse:
    """Delete one view, or bring it back."""
    try:
        if request.POST.get("action") == "bring_back":
            view = run_views.bring_back(owner=person(request), view_id=view_id)
            messages.success(request, f"The view “{make_visible(view.name)}” is back.")
        else:
            view = run_views.delete(owner=person(request), view_id=view_id)
            messages.success(request, f"The view “{make_visible(view.name)}” is deleted. You can bring it back below.")
    except InvalidChange as exc:
        return _page(request, exc.http_status, fault=exc.sentence)
    return redirect("orchestration:run_views")


def _page(request: HttpRequest, status: int = 200, **context: Any) -> HttpResponse:
    owner = person(request)
    context |= {"views": run_views.views_of(owner), "deleted": run_views.deleted_of(owner)}
    return render(request, "orchestration/run_views.html", context, status=status)
