"""Approve with a change, in two steps: change the arguments, then read the difference and send it."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods, require_safe

from approvals.errors import InvalidVerdict
from approvals.models import Approval
from approvals.pages.inbox.asked import read_asked
from approvals.pages.inbox.pane import inbox_for
from approvals.pages.request.page import DecisionRefusal, approval_page
from approvals.people.permissions import may_decide
from approvals.policies.asking import under_terms
from approvals.policies.words import who_decides
from approvals.proposal.canonical import touched
from approvals.proposal.terms import Terms
from approvals.reading import four_records, requests
from approvals.reading.arguments import ArgumentRow, argument_rows_of
from approvals.reading.done_before import done_before
from approvals.reading.first_shown import note_shown
from approvals.services.editing import Edit, consider_edit, fixed_for
from console.forms import schema_form
from console.forms.typed import typed_fields
from console.fragments import page_or_fragment
from console.http import is_htmx, needs, person
from console.text.diff import diff
from console.text.digests import digest_of_drawn
from console.text.json_text import NotJson, read_json

PREFIX = "arguments"


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def edit(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Draw the arguments as a form; take what was typed and show the difference. Nothing is decided here."""
    user = person(request)
    found = requests.whole_request(user, approval_id)
    proposed = found.arguments
    base = _read_object(request.POST.get("base", ""), proposed)
    if request.method != "POST" or "again" in request.POST:
        form = schema_form.build(found.arguments_schema, base, prefix=PREFIX)
    else:
        form = schema_form.read(found.arguments_schema, base, request.POST, prefix=PREFIX)
    fixed = _take_fixed(form, found)
    if not found.is_open or "edit" not in found.verdicts or not may_decide(user, found).allowed:
        return _too_late(request, user, found, form)
    if request.method != "POST" or "again" in request.POST:
        return _form_page(request, user, found, form, base, fixed)
    if "check" not in request.POST or not form.is_valid:  # a row was added or removed, or something does not fit
        return _form_page(request, user, found, form, base, fixed, status=422 if "check" in request.POST else 200)
    if not isinstance(form.value, dict):
        form.add_error((), "The arguments of a tool are an object: write them between braces.")
        return _form_page(request, user, found, form, base, fixed, status=422)
    try:
        changed, terms = consider_edit(found, form.value)
    except InvalidVerdict as exc:
        for error in exc.errors:
            below = error["path"].removeprefix("edited_arguments")
            form.add_error(schema_form.steps_of(below), error["message"])
        return _form_page(request, user, found, form, base, fixed, status=exc.http_status)
    return _check_page(request, user, found, proposed, changed, terms)


@require_safe
@needs("see")
def compare(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Show the difference between two of a request's records: proposed, shown, decided, executed."""
    user = person(request)
    found = requests.whole_request(user, approval_id)
    context = {
        "approval": found,
        "comparison": four_records.compare(found, request.GET.get("a", ""), request.GET.get("b", "")),
    }
    return page_or_fragment(request, "approvals/compare.html", "approvals/_compare.html", context)


def _take_fixed(form: schema_form.Form, found: Approval) -> list[ArgumentRow]:
    """Take out of the form what no change may touch, and return it as it is. What is not sent is not changed.

    A field that has a fault of its own stays, so that its sentence is seen.
    """
    fields = form.root.children if form.root.kind == "group" else {}
    now = found.arguments
    names = [name for name in fixed_for(found, found.given_terms) if name in now]
    for name in names:
        if name in fields and not fields[name].faults:
            del fields[name]
    return argument_rows_of({name: now[name] for name in names}) if names else []


def _too_late(request: HttpRequest, user: User, found: Approval, form: schema_form.Form) -> HttpResponse:
    """Answer with the request as it is, which says why it cannot be changed, and with what was typed."""
    if request.method != "POST":
        return approval_page(request, user, found.pk)
    edited = unread = ""
    if form.is_valid:
        edited = json.dumps(form.value, ensure_ascii=False, indent=1)
    else:
        sent = (one for one in typed_fields(request) if one.name.startswith(PREFIX) and ".~" not in one.name)
        unread = "\n".join(f"{one.name}: {one.value}" for one in sent)
    refusal = DecisionRefusal(409, "It cannot be changed any more.", request, edited=edited, unread=unread)
    return approval_page(request, user, found.pk, refusal)


def _form_page(
    request: HttpRequest,
    user: User,
    found: Approval,
    form: schema_form.Form,
    base: dict[str, Any],
    fixed: list[ArgumentRow],
    *,
    status: int = 200,
) -> HttpResponse:
    sent = request.POST if request.method == "POST" else request.GET
    version, digest = sent.get("version", str(found.version)), sent.get("digest", found.digest)
    context = {
        "approval": found,
        "form": form,
        "fixed": fixed,
        "base": json.dumps(base, ensure_ascii=False),
        "draft": digest_of_drawn(base),
        "note": sent.get("note", ""),
        "shown": note_shown(found, user, sent.get("shown", "")),
        "is_stale": (version, digest) != (str(found.version), found.digest),
    }
    return _answer(request, user, "approvals/_edit.html", context, status)


def _check_page(
    request: HttpRequest, user: User, found: Approval, proposed: dict[str, Any], changed: Edit, terms: Terms
) -> HttpResponse:
    after = requests.whole_request(user, found.pk)  # another object: what would hold is drawn on it and never saved
    under_terms(after, terms)
    context = {
        "approval": found,
        "summary": changed.summary,
        "changes": diff(proposed, changed.arguments),
        "done": done_before(found, changed.arguments),
        "identity": touched(found.fixed_arguments, proposed, changed.arguments),
        "edited": json.dumps(changed.arguments, ensure_ascii=False),
        "who": who_decides(after, terms),
        "is_raised": (after.needed, after.audience, after.risk) != (found.needed, found.audience, found.risk),
        "risk": after.risk,
        "note": request.POST.get("note", ""),
        "key": secrets.token_urlsafe(16),
        "shown": note_shown(found, user, request.POST.get("shown", "")),
    }
    return _answer(request, user, "approvals/_edit_check.html", context, 200)


def _answer(request: HttpRequest, user: User, fragment: str, context: dict[str, Any], status: int) -> HttpResponse:
    context |= {"detail_template": fragment, "is_chosen": True}
    if not is_htmx(request):
        context["inbox"] = inbox_for(user, read_asked(request))
    return page_or_fragment(request, "approvals/inbox.html", fragment, context, status=status)


def _read_object(text: str, otherwise: dict[str, Any]) -> dict[str, Any]:
    try:
        found = read_json(text)
    except NotJson:
        return otherwise
    return found if isinstance(found, dict) else otherwise
