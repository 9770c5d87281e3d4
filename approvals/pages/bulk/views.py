"""Deciding several requests together, as pages: read what they share and where they differ, decide, see each result."""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST, require_safe

from approvals.models import Verdict
from approvals.people.permissions import visible_to
from approvals.reading import bulk
from approvals.reading.bulk import Item, Result, Review
from approvals.services.deciding import NOTE_LIMIT
from console import ports
from console.database import AWAY
from console.http import needs, person, signed_in_at

_ITEM: Final = re.compile(r"(?P<id>\w{1,40}):(?P<version>[1-9][0-9]{0,8}):(?P<digest>[0-9a-f]{64})", re.ASCII)


@require_safe
@needs("see")
def review(request: HttpRequest) -> HttpResponse:
    """What was chosen, sorted by what fits together. Nothing changes here.

    `id`, once or often: the chosen requests; `same`: all that ask the same as this one; `note`: what was typed before.
    """
    user = person(request)
    chosen = [one for one in request.GET.getlist("id") if one.isprintable()]
    if same := request.GET.get("same", ""):
        chosen += bulk.same_as(user, same) if same.isprintable() else []
    return _review_page(request, bulk.review(user, chosen), note=request.GET.get("note", "")[:NOTE_LIMIT])


@require_POST
@needs("see")
def decide_together(request: HttpRequest) -> HttpResponse:
    """Take one verdict for each of the items sent. What was refused comes back in words, beside what was taken."""
    user = person(request)
    items, is_whole = _items(request)
    note = request.POST.get("note", "")
    shown = [item.approval_id for item in items] if items else []
    fault = _fault(request, items, is_whole)
    if not fault and len(kinds := _kinds(user, shown)) > 1:
        fault = f"These are {len(kinds)} different kinds of request. Decide one kind at a time."
    if fault:
        unticked = [one for one in request.POST.getlist("shown") if one.isprintable()]
        found = bulk.review(user, unticked or shown)
        return _review_page(request, found, status=422, fault=fault, note=note, ticked=shown)
    key, signed = request.POST.get("key", "")[:200], signed_in_at(request)
    return _results_page(request, user, bulk.decide_each(user, items, key=key, signed_in_at=signed), note, key)


def _results_page(request: HttpRequest, user: User, results: list[Result], note: str, key: str) -> HttpResponse:
    """Say of each item what became of it; in a page that asks no database while it is away."""
    try:
        results, is_away = bulk.with_approvals(user, results), False
    except AWAY:
        is_away = True
    context = {
        "results": results,
        "done": [one for one in results if one.status == 200],
        "refused": [one for one in results if one.status != 200],
        "again": [one for one in results if one.may_try_again],
        "cut_off": [one for one in results if one.status == 503],
        "note": note,
        "key": key,
        "verdict": request.POST["verdict"],
        "skeleton": "console/plain.html" if is_away else "console/base.html",
    }
    if not is_away:
        return render(request, "approvals/together_result.html", context)
    words = render_to_string("approvals/together_result.html", context | {"csrf_token": get_token(request)})
    return HttpResponse(words, status=503, headers={"Retry-After": "5"})


def _items(request: HttpRequest) -> tuple[list[Item], bool]:
    """Return the items sent, and whether all of them could be read."""
    sent = list(dict.fromkeys(request.POST.getlist("item")))
    read = [_ITEM.fullmatch(one) for one in sent]
    verdict, note = request.POST.get("verdict", ""), request.POST.get("note", "").replace("\r\n", "\n")
    items = [Item(one["id"], verdict, int(one["version"]), one["digest"], note) for one in read if one]
    return items, len(items) == len(sent)


def _fault(request: HttpRequest, items: list[Item], is_whole: bool) -> str:
    verdict, note = request.POST.get("verdict", ""), request.POST.get("note", "")
    if not is_whole:
        return "The form was incomplete. Read the requests again, then decide."
    if not items:
        return "Tick at least one request."
    if len(items) > bulk.MOST:
        return f"At most {bulk.MOST} requests can be decided together; these are {len(items)}."
    if verdict not in bulk.VERDICTS:
        return "Together, requests can be approved or rejected."
    if verdict == Verdict.REJECT and not note.strip():
        return "Say why, so that the agent can do better."
    if len(note) > NOTE_LIMIT:
        return f"At most {NOTE_LIMIT:,} characters; the comment has {len(note):,}."
    return ""


def _kinds(user: User, approval_ids: list[str]) -> set[tuple[str, str, str]]:
    rows = visible_to(user).filter(pk__in=approval_ids).only("tool", "risk", "terms")
    return {bulk.kind_of(row) for row in rows}


def _review_page(request: HttpRequest, found: Review, *, status: int = 200, **context: Any) -> HttpResponse:
    group = found.groups[0] if len(found.groups) == 1 else None
    run_ids = [line.approval.run_id for line in group.lines] if group else []
    context = {
        "review": found,
        "group": group,
        "runs": ports.agent_plane().runs_there(run_ids),
        "key": secrets.token_urlsafe(16),  # a second send of this very form gets the same answers
        "ticked": group.ids if group else [],
        "most": bulk.MOST,
        **context,
    }
    return render(request, "approvals/together.html", context, status=status)
