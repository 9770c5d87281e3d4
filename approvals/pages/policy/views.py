"""The pages of the policy: what holds, what held before, and how it is changed. All of them work without a script."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from approvals.models import AuditEvent, PolicyVersion
from approvals.pages.policy.forms import (
    Draft,
    at_fields,
    calendar_fields,
    read_calendar,
    read_rule,
    rule_sections,
)
from approvals.people.persons import person_of
from approvals.policies import shipped
from approvals.policies.asking import active_policy
from approvals.policies.calendars import Calendar, described
from approvals.policies.conditions import FUNCTIONS
from approvals.policies.errors import InvalidPolicy, NoSuchVersion, PolicyError
from approvals.policies.policy import Policy
from approvals.policies.words import card_of, compare
from approvals.reading.policy_preview import preview
from approvals.services import changing_policy
from console import roles
from console.http import needs, person, sentence
from console.text.json_text import NotJson, read_exactly

HISTORY = 100  # versions on the page, newest first


@dataclass(frozen=True)
class CalendarHours:
    """One calendar for the page."""

    name: str
    timezone: str
    lines: tuple[str, ...]


@require_safe
@needs("see")
def policy(request: HttpRequest) -> HttpResponse:
    """Show what holds now, what waits to be confirmed, and what held before."""
    active = changing_policy.active_version()
    versions = list(PolicyVersion.objects.select_related("made_by", "settled_by").order_by("-version")[:HISTORY])
    rules, calendars = (active.rules, active.calendars) if active else (shipped.RULES, shipped.CALENDARS)
    context = {
        "active": active,
        "proposed": next((one for one in versions if one.state == PolicyVersion.State.PROPOSED), None),
        "versions": versions,
        "cards": _cards(rules),
        "calendars": _calendars(calendars),
        "may_change": roles.may(person(request), "policy"),
    }
    return render(request, "approvals/policy.html", context)


@require_safe
@needs("see")
def version(request: HttpRequest, number: int) -> HttpResponse:
    """Show one version, how it differs from the one before, and while it waits what it would change."""
    return _version_page(request, _found(number))


@require_POST
@needs("policy")
def settle(request: HttpRequest, number: int) -> HttpResponse:
    """Confirm or refuse a proposed version."""
    user = person(request)
    try:
        if request.POST.get("do") == "confirm":
            changing_policy.confirm(version=number, by=user)
            told = f"Version {number} is active."
        else:
            changing_policy.refuse(version=number, by=user, reason=request.POST.get("reason", ""))
            told = f"Version {number} is refused."
    except NoSuchVersion:
        raise
    except PolicyError as exc:
        return _version_page(request, _found(number), exc)
    messages.success(request, told)
    return redirect("approvals:policy")


@require_http_methods(["GET", "HEAD", "POST"])
@needs("policy")
def edit(request: HttpRequest) -> HttpResponse:
    """Edit a draft. Each button sends the whole draft and says what to do with it: `do` is "verb" or "verb:place"."""
    if request.method != "POST":
        return _draft_page(request, Draft.of_active())
    try:
        draft = Draft.read(request.POST.get("draft", ""))
    except ValueError:
        return sentence(
            request,
            422,
            title="The draft cannot be read",
            detail="The page sent something else than a draft of the policy.",
            next_step="Open the policy and begin again.",
        )
    draft.note = request.POST.get("note", draft.note)
    verb, _, place = request.POST.get("do", "").partition(":")
    act = _VERBS.get(verb)
    return act(request, draft, place) if act else _draft_page(request, draft)


def _add(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    return _rule_page(request, draft, len(draft.rules), {})


def _edit_rule(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    at = _place(draft, place)
    return _rule_page(request, draft, at, draft.rules[at]) if at is not None else _draft_page(request, draft)


def _keep_rule(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    rule, at = read_rule(request.POST), _place(draft, place)
    at = len(draft.rules) if at is None else at
    changed = [*draft.rules[:at], rule, *draft.rules[at + 1 :]]
    faults = at_fields(_faults_under(f"rules.{at}", changed, draft.calendars))
    if faults:
        return _rule_page(request, draft, at, rule, faults)
    draft.rules = changed
    return _draft_page(request, draft)


def _move(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    at, step = _place(draft, place), -1 if request.POST["do"].startswith("up") else 1
    if at is not None and 0 <= at + step < len(draft.rules):
        draft.rules[at], draft.rules[at + step] = draft.rules[at + step], draft.rules[at]
    return _draft_page(request, draft)


def _remove(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    at = _place(draft, place)
    if at is not None:
        del draft.rules[at]
    return _draft_page(request, draft)


def _json(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    return _json_page(request, draft, _pretty(draft))


def _keep_json(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    typed = request.POST.get("json", "")
    try:
        held = read_exactly(typed)
    except NotJson as exc:
        return _json_page(request, draft, typed, [str(exc)])
    if not isinstance(held, dict) or set(held) != {"rules", "calendars"}:
        return _json_page(request, draft, typed, ["Write an object with the keys rules and calendars."])
    try:
        changing_policy.checked(held["rules"], held["calendars"])
    except InvalidPolicy as exc:
        return _json_page(request, draft, typed, [f"{one['path']}: {one['message']}" for one in exc.errors])
    draft.rules, draft.calendars = held["rules"], held["calendars"]
    return _draft_page(request, draft)


def _calendar(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    return _calendar_page(request, draft, place, place, draft.calendars.get(place, {}))


def _keep_calendar(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    name, calendar = read_calendar(request.POST)
    others = {key: one for key, one in draft.calendars.items() if key != place}
    faults = _faults_under(f"calendars.{name}", [], others | {name: calendar})
    if name in others:
        faults.setdefault("", []).append("Another calendar has this name.")
    if faults:
        return _calendar_page(request, draft, place, name, calendar, faults)
    draft.calendars = others | {name: calendar}
    return _draft_page(request, draft)


def _remove_calendar(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    draft.calendars.pop(place, None)
    return _draft_page(request, draft)


def _preview(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    try:
        changing_policy.checked(draft.rules, draft.calendars)
    except InvalidPolicy as exc:
        return _draft_page(request, draft, exc.errors, status=exc.http_status)
    return _preview_page(request, draft)


def _propose(request: HttpRequest, draft: Draft, place: str) -> HttpResponse:
    try:
        made = changing_policy.propose(
            rules=draft.rules,
            calendars=draft.calendars,
            note=draft.note,
            by=person(request),
            based_on=draft.based_on,
        )
    except InvalidPolicy as exc:
        if exc.errors[0]["path"] == "note":
            return _preview_page(request, draft, note_fault=exc.sentence, status=exc.http_status)
        return _draft_page(request, draft, exc.errors, status=exc.http_status)
    except PolicyError as exc:
        return _preview_page(request, draft, fault=exc.sentence, status=exc.http_status)
    if made.state == PolicyVersion.State.ACTIVE:
        messages.success(request, f"Version {made.version} is active; you are the only admin.")
    else:
        messages.success(request, f"Version {made.version} is proposed. Another admin has to confirm it.")
    return redirect("approvals:policy_version", made.version)


_VERBS: dict[str, Callable[[HttpRequest, Draft, str], HttpResponse]] = {
    "add": _add,
    "edit": _edit_rule,
    "keep": _keep_rule,
    "up": _move,
    "down": _move,
    "remove": _remove,
    "json": _json,
    "keep-json": _keep_json,
    "calendar": _calendar,
    "keep-calendar": _keep_calendar,
    "remove-calendar": _remove_calendar,
    "preview": _preview,
    "propose": _propose,
}


def _draft_page(
    request: HttpRequest, draft: Draft, errors: list[dict[str, str]] | None = None, *, status: int = 200
) -> HttpResponse:
    before = Draft.of_active()
    context = {
        "draft": draft,
        "cards": _cards(draft.rules),
        "calendars": _calendars(draft.calendars),
        "differences": compare(before.rules, draft.rules),
        "are_hours_changed": before.calendars != draft.calendars,
        "errors": errors or [],
    }
    return render(request, "approvals/policy_edit.html", context, status=status)


def _rule_page(
    request: HttpRequest, draft: Draft, place: int, rule: Any, faults: dict[str, list[str]] | None = None
) -> HttpResponse:
    context = {
        "draft": draft,
        "place": place,
        "is_new": place == len(draft.rules),
        "name": rule.get("name", "") if isinstance(rule, dict) else "",
        "sections": rule_sections(rule, list(draft.calendars), faults or {}),
        "is_wrong": bool(faults),
        "functions": FUNCTIONS,
    }
    return render(request, "approvals/policy_rule.html", context, status=422 if faults else 200)


def _calendar_page(
    request: HttpRequest,
    draft: Draft,
    place: str,
    name: str,
    calendar: Any,
    faults: dict[str, list[str]] | None = None,
) -> HttpResponse:
    told = faults or {}
    placed = [path for path in told if path in ("", "timezone") or path.startswith(("hours.", "holidays"))]
    context = {
        "draft": draft,
        "place": place,
        "fields": calendar_fields(name, calendar, told),
        "faults": [fault for path in told if path not in placed for fault in told[path]],
    }
    return render(request, "approvals/policy_calendar.html", context, status=422 if faults else 200)


def _json_page(request: HttpRequest, draft: Draft, text: str, faults: list[str] | None = None) -> HttpResponse:
    context = {"draft": draft, "text": text, "faults": faults or []}
    return render(request, "approvals/policy_json.html", context, status=422 if faults else 200)


def _preview_page(
    request: HttpRequest, draft: Draft, *, fault: str = "", note_fault: str = "", status: int = 200
) -> HttpResponse:
    before = Draft.of_active()
    context = {
        "draft": draft,
        "differences": compare(before.rules, draft.rules),
        "seen": preview(active_policy(), Policy("next", *changing_policy.checked(draft.rules, draft.calendars))),
        "is_alone": len(changing_policy.admin_persons()) < 2,
        "fault": fault,
        "note_fault": note_fault,
    }
    return render(request, "approvals/policy_preview.html", context, status=status)


def _version_page(request: HttpRequest, found: PolicyVersion, fault: PolicyError | None = None) -> HttpResponse:
    user, waits = person(request), found.state == PolicyVersion.State.PROPOSED
    before = _before(found)
    refusal = AuditEvent.objects.filter(subject=f"policy:{found.version}", kind="policy.refused").first()
    may_settle = waits and roles.may(user, "policy")
    context = {
        "version": found,
        "before": before,
        "digest": changing_policy.digest_of(found),
        "cards": _cards(found.rules),
        "calendars": _calendars(found.calendars),
        "differences": compare(before.rules if before else shipped.RULES, found.rules),
        "are_hours_changed": found.calendars != (before.calendars if before else shipped.CALENDARS),
        "refused_because": refusal.body.get("reason", "") if refusal else "",
        "seen": preview(active_policy(), Policy(str(found.version), found.rules, found.calendars)) if waits else None,
        "may_settle": may_settle,
        "is_own": may_settle and person_of(user) == person_of(found.made_by),
        "fault": str(fault or ""),
        "reason": request.POST.get("reason", ""),
        "is_reason_wrong": isinstance(fault, InvalidPolicy) and fault.errors[0]["path"] == "note",
    }
    return render(request, "approvals/policy_version.html", context, status=fault.http_status if fault else 200)


def _found(number: int) -> PolicyVersion:
    if number >= 2**31:
        raise Http404
    found = PolicyVersion.objects.select_related("made_by", "settled_by").filter(version=number).first()
    if found is None:
        raise Http404
    return found


def _before(found: PolicyVersion) -> PolicyVersion | None:
    """Return the version that was active before this one, `None` when the shipped rules were."""
    once = (PolicyVersion.State.ACTIVE, PolicyVersion.State.REPLACED)
    return PolicyVersion.objects.filter(version__lt=found.version, state__in=once).order_by("-version").first()


def _cards(rules: Any) -> list[Any]:
    return [card_of(rule, place) for place, rule in enumerate(rules, start=1)] if isinstance(rules, list) else []


def _calendars(stored: dict[str, Any]) -> list[CalendarHours]:
    found = []
    for name, one in stored.items():
        try:
            calendar = Calendar.model_validate(one)
        except ValueError:
            found.append(CalendarHours(name, "", ("It cannot be read.",)))
        else:
            found.append(CalendarHours(name, calendar.timezone, tuple(described(calendar))))
    return found


def _faults_under(path: str, rules: list[Any], calendars: dict[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong with one part of a policy, by the path inside that part."""
    try:
        changing_policy.checked(rules, calendars)
    except InvalidPolicy as exc:
        found: dict[str, list[str]] = {}
        for error in exc.errors:
            if error["path"] == path or error["path"].startswith(f"{path}."):
                found.setdefault(error["path"].removeprefix(path).removeprefix("."), []).append(error["message"])
        return found
    return {}


def _place(draft: Draft, text: str) -> int | None:
    at = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else -1
    return at if 0 <= at < len(draft.rules) else None


def _pretty(draft: Draft) -> str:
    return json.dumps({"rules": draft.rules, "calendars": draft.calendars}, ensure_ascii=False, indent=2)
