"""One action about many runs: how many and which first, then its progress, run by run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from approvals.errors import InvalidChange
from console.fragments import page_or_fragment
from console.http import needs, person
from console.lists.longer_lists import address_of
from console.live.parts import is_a_part
from console.text.digests import digest_of_drawn
from console.text.visible import make_visible
from orchestration.actions import bulk
from orchestration.actions.table import ACTIONS
from orchestration.diagnosis.table import heading_of
from orchestration.errors import ActionRefused, InvalidOptions, NoSuchRun

SHOWN_AT_MOST = 100  # runs whose preview is drawn; the others are counted


@require_http_methods(["GET", "HEAD", "POST"])
@needs("act_on_run")
def many(request: HttpRequest) -> HttpResponse:
    """Choose an action for the runs that the address names or filters, see what it would do, and have it done."""
    given = request.POST if request.method == "POST" else request.GET
    ids = [one[:200] for one in given.getlist("ids")]
    wanted = {name: given[name][:200] for name in bulk.FILTERS if given.get(name)}
    action, reason = given.get("action", "")[:40], request.POST.get("reason", "")
    context: dict[str, Any] = {
        "actions": [ACTIONS[name] for name in bulk.IN_BULK if not ACTIONS[name].options.model_fields],
        "action": ACTIONS.get(action),
        "ids": ids,
        "wanted": wanted,
        "told": _told(wanted),
        "back": address_of("orchestration:runs", wanted),
        "reason": reason,
        "key": request.POST.get("key", "")[:100] or uuid4().hex,
        "fault": "",
        "draft": digest_of_drawn([action, ids or wanted]),
    }
    status = 200
    try:
        which: dict[str, Any] = {"ids": ids} if ids else {"wanted": wanted}
        run_ids = bulk.chosen(person(request), **which)
        context["total"] = len(run_ids)
        if action:
            bulk.check(action, {})
            if request.method == "POST":
                asked: dict[str, Any] = {
                    "by": person(request),
                    "action": action,
                    "reason": reason,
                    "options": {},
                    "asked_for": bulk.meant(**which),
                }
                key = request.POST.get("key", "")[:100]
                begun = bulk.found_under(key, **asked) or bulk.begin(run_ids=run_ids, key=key, **asked)
                return redirect("orchestration:bulk", begun.pk)
            context |= _would(run_ids, action)
    except (InvalidOptions, InvalidChange, NoSuchRun, ActionRefused) as exc:
        context["fault"] = exc.sentence
        if ids or wanted or request.method == "POST":  # who opens the bare address is told what it wants
            status = exc.http_status
        if action and context.get("total") and isinstance(exc, InvalidChange):
            context |= _would(run_ids, action)
    return render(request, "orchestration/bulk_start.html", context, status=status)


def _told(wanted: dict[str, str]) -> str:
    """Say which runs a filter means."""
    words = {
        "status": "their status is {}",
        "agent": "their agent is {}",
        "search": "they have the words “{}”",
        "stuck": "they need somebody",
        "cause": "their cause is: {}",
    }
    told = [
        words[name].format(make_visible(heading_of(value) if name == "cause" else value))
        for name, value in wanted.items()
    ]
    return ", ".join(told)


def _would(run_ids: list[str], action: str) -> dict[str, Any]:
    """Return what the action would do, summed up, and the first runs one by one."""
    seen = bulk.preview(run_ids, action, {})
    return {
        "would": seen[:SHOWN_AT_MOST],
        "done": sum(not one.refusal for one in seen),
        "refused": sum(bool(one.refusal) for one in seen),
        "withdrawn": sum(one.withdrawn for one in seen),
        "voided": sum(one.voided for one in seen),
        "more": max(len(seen) - SHOWN_AT_MOST, 0),
        "run_ids": run_ids,
    }


@is_a_part
@require_safe
@needs("act_on_run")
def one(request: HttpRequest, bulk_id: str) -> HttpResponse:
    """How far an action about many runs has got."""
    found = bulk.bulk_for(bulk_id)
    counts = bulk.counts_of(found)
    context = {
        "bulk": found,
        "action": ACTIONS.get(found.action),
        "counts": counts,
        "settled": found.total - counts["waiting"],
        "items": list(found.items.exclude(state="done").order_by("number")[:SHOWN_AT_MOST]),
    }
    return page_or_fragment(request, "orchestration/bulk.html", "orchestration/_bulk.html", context)


@require_POST
@needs("act_on_run")
def stop(request: HttpRequest, bulk_id: str) -> HttpResponse:
    """Begin no more of it."""
    bulk.stop(bulk_id=bulk_id, by=person(request))
    messages.success(request, "Stopped. What was done stays.")
    return redirect("orchestration:bulk", bulk_id)
