"""The forms that the policy is edited with: one rule, one calendar, and the draft that is carried along.

A draft is the whole list as it is being edited. It travels in the page, so that nothing is kept for whoever leaves,
and two open pages do not disturb each other. What was typed comes back, right or wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from approvals.policies import shipped
from approvals.policies.calendars import DAYS
from approvals.policies.rules import GROUPS, VERDICTS
from approvals.services.changing_policy import active_version
from console.text.json_text import depth_fault, read_exactly
from console.text.stored import all_can_be_kept

DRAFT_LIMIT = 512 * 1024  # characters

_SOURCES = (("agent", "agents"), ("program", "programs"))
_KINDS = (("action", "may it be done?"), ("outcome", "did it happen?"))
_RISKS = (("low", "low"), ("medium", "medium"), ("high", "high"))
_EYES = (("requester", "who asked for it"), ("editor", "who changed it"), ("owner", "the agent's owner"))
_OUTCOMES = (("ask", "people decide"), ("allow", "nobody is needed"), ("deny", "it is never done"))


@dataclass(frozen=True)
class PolicyField:
    """One input: text, long, choice, several or flag."""

    name: str  # the path inside the rule, as faults name it
    label: str
    kind: str = "text"
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""
    text: str = ""
    chosen: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return self.name.replace(".", "-").replace("_", "-")


@dataclass(frozen=True)
class PolicySection:
    """Inputs that belong together."""

    title: str
    fields: tuple[PolicyField, ...]


@dataclass
class Draft:
    """A policy as it is being edited."""

    based_on: int  # the version that it was made from, 0: the shipped rules
    rules: list[Any] = field(default_factory=list)
    calendars: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of_active(cls) -> Draft:
        """Begin with what is active now."""
        active = active_version()
        if active is None:
            return cls(0, [dict(rule) for rule in shipped.RULES], dict(shipped.CALENDARS))
        return cls(active.version, active.rules, active.calendars)

    @classmethod
    def read(cls, text: str) -> Draft:
        """Read a draft that a page has carried. Raises ValueError when it is none."""
        if len(text) > DRAFT_LIMIT:
            raise ValueError("too long")
        held = read_exactly(text)
        if depth_fault(held) or not all_can_be_kept(held):
            raise ValueError("cannot be kept")
        if not isinstance(held, dict) or not isinstance(held.get("based_on"), int):
            raise ValueError("not a draft")
        rules, calendars = held.get("rules"), held.get("calendars")
        if not isinstance(rules, list) or not isinstance(calendars, dict):
            raise ValueError("not a draft")
        return cls(held["based_on"], rules, calendars, str(held.get("note", "")))

    def text(self) -> str:
        """Return the draft for the page to carry."""
        held = {"based_on": self.based_on, "rules": self.rules, "calendars": self.calendars, "note": self.note}
        return json.dumps(held, ensure_ascii=False)


def rule_sections(rule: Any, calendars: Sequence[str], faults: Mapping[str, Sequence[str]]) -> list[PolicySection]:
    """Return the inputs of one rule, filled in; `faults` by path inside the rule."""
    rule = rule if isinstance(rule, dict) else {}
    raw_match = rule.get("match")
    match: dict[str, Any] = raw_match if isinstance(raw_match, dict) else {}
    hours = (("", "every hour counts"), *((name, name) for name in calendars))
    groups = tuple((group, group) for group in GROUPS)

    def text(name: str, label: str, default: Any = "", *, kind: str = "text", hint: str = "") -> PolicyField:
        value = _value(rule, match, name, default)
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return PolicyField(name, label, kind, (), hint, shown, (), tuple(faults.get(name, ())))

    def choice(
        name: str, label: str, choices: tuple[tuple[str, str], ...], default: str, hint: str = ""
    ) -> PolicyField:
        value = str(_value(rule, match, name, default))
        known = choices if value in dict(choices) else (*choices, (value, value))
        return PolicyField(name, label, "choice", known, hint, value, (), tuple(faults.get(name, ())))

    def several(
        name: str, label: str, choices: tuple[tuple[str, str], ...], default: Sequence[str], hint: str = ""
    ) -> PolicyField:
        value = _value(rule, match, name, list(default))
        chosen = tuple(map(str, value)) if isinstance(value, list) else ()
        known = (*choices, *((one, one) for one in chosen if one not in dict(choices)))
        return PolicyField(name, label, "several", known, hint, "", chosen, tuple(faults.get(name, ())))

    def flag(name: str, label: str, default: bool) -> PolicyField:
        is_on = _value(rule, match, name, default) is True
        return PolicyField(name, label, "flag", (), "", "on" if is_on else "", (), tuple(faults.get(name, ())))

    return [
        PolicySection(
            "What it is about",
            (
                text("name", "Name", hint="The requests it decides show it."),
                text("match.tools", "Tools", ["*"], hint="Exact names, with commas between them; * means every one."),
                text("match.agents", "Agents", ["*"], hint="As above. Programs are named by the agent they give."),
                several("match.kinds", "Questions", _KINDS, ["action"]),
                several("match.sources", "Asked by", _SOURCES, [], "None means all."),
                several("match.risks", "Risks, as the tool declares them", _RISKS, [], "None means all."),
                text("condition", "Condition", kind="long", hint="Empty always holds. The words are explained below."),
            ),
        ),
        PolicySection(
            "Who decides",
            (
                choice("outcome", "Then", _OUTCOMES, "ask"),
                several("groups", "Groups", groups, ["reviewer"]),
                text("people", "People besides", [], hint="User names, with commas between them."),
                text("needed", "How many must agree", 1, hint="Different people; or “all” of the people named."),
                several("four_eyes", "Never", _EYES, ["requester", "editor"], "By person, not by account."),
                several("verdicts", "Answers", tuple((one, one) for one in VERDICTS), VERDICTS),
                choice("risk", "Counts as", (("", "the tool's own risk"), *_RISKS), ""),
            ),
        ),
        PolicySection(
            "By when",
            (
                text("remind_after", "Remind after", "24h", hint="As 90m, 24h or 3d."),
                text("escalate_after", "Escalate after", "48h"),
                several("escalate_to", "Then ask too", groups, ["admin"]),
                text("expire_after", "Expire after", "72h"),
                choice("calendar", "Hours that count", hours, "", "With a calendar the times are working hours."),
            ),
        ),
        PolicySection(
            "With what care",
            (
                text("fresh_sign_in_minutes", "Sign-in not older than, in minutes", 0, hint="0: any session will do."),
                text("dwell_seconds", "Least look before approving, in seconds", 0),
                flag("may_bulk", "May be decided together with others (never at high risk)", True),
                flag("needs_fresh_data", "Approved only while what the agent has read is current and confirmed", False),
                flag("may_change_fixed", "A change may touch the arguments that its tool has fixed", False),
            ),
        ),
    ]


def at_fields(faults: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return faults by the input that shows them: a fault inside of a list belongs to the list."""
    names = {one.name for section in rule_sections({}, (), {}) for one in section.fields}
    found: dict[str, list[str]] = {}
    for path, told in faults.items():
        name = next((name for name in names if path == name or path.startswith(f"{name}.")), "name")
        found.setdefault(name, []).extend(told)
    return found


def read_rule(sent: QueryDict) -> dict[str, Any]:
    """Return the rule that a form has sent, as it would be kept; what is no number stays as it was typed."""
    rule: dict[str, Any] = {
        "name": sent.get("name", "").strip(),
        "match": {
            "sources": sent.getlist("match.sources"),
            "agents": _names(sent, "match.agents"),
            "tools": _names(sent, "match.tools"),
            "kinds": sent.getlist("match.kinds"),
            "risks": sent.getlist("match.risks"),
        },
        "condition": sent.get("condition", "").strip(),
        "people": _names(sent, "people"),
        "may_bulk": "may_bulk" in sent,
        "needs_fresh_data": "needs_fresh_data" in sent,
        "may_change_fixed": "may_change_fixed" in sent,
    }
    for name in ("outcome", "remind_after", "escalate_after", "expire_after", "calendar", "risk"):
        rule[name] = sent.get(name, "").strip()
    for name in ("groups", "four_eyes", "verdicts", "escalate_to"):
        rule[name] = sent.getlist(name)
    for name in ("needed", "fresh_sign_in_minutes", "dwell_seconds"):
        typed = sent.get(name, "").strip()
        rule[name] = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 10 else typed
    return rule


def calendar_fields(name: str, calendar: Any, faults: Mapping[str, Sequence[str]]) -> list[PolicyField]:
    """Return the inputs of one calendar, filled in."""
    calendar = calendar if isinstance(calendar, dict) else {}
    hours = calendar.get("hours") if isinstance(calendar.get("hours"), dict) else {}
    fields = [
        PolicyField("calendar", "Name", text=name, faults=tuple(faults.get("", ()))),
        PolicyField(
            "timezone",
            "Time zone",
            text=str(calendar.get("timezone", "")),
            hint="As Europe/Berlin.",
            faults=tuple(faults.get("timezone", ())),
        ),
    ]
    for day in DAYS:
        told = [fault for path, some in faults.items() if path.startswith(f"hours.{day}") for fault in some]
        fields.append(
            PolicyField(f"hours.{day}", day.capitalize(), text=_windows_text(hours.get(day)), faults=tuple(told))
        )
    told = [fault for path, some in faults.items() if path.startswith("holidays") for fault in some]
    listed = calendar.get("holidays")
    days = "\n".join(map(str, listed)) if isinstance(listed, list) else ""
    hint = "One day a line, as 2026-12-25."
    return [*fields, PolicyField("holidays", "Holidays", "long", hint=hint, text=days, faults=tuple(told))]


def read_calendar(sent: QueryDict) -> tuple[str, dict[str, Any]]:
    """Return the name and the calendar that a form has sent; a window is written 09:00-17:00."""
    hours = {}
    for day in DAYS:
        typed = [part.strip() for part in sent.get(f"hours.{day}", "").split(",") if part.strip()]
        if typed:
            hours[day] = [[end.strip() for end in window.split("-", 1)] for window in typed]
    holidays = [line.strip() for line in sent.get("holidays", "").splitlines() if line.strip()]
    calendar = {"timezone": sent.get("timezone", "").strip(), "hours": hours, "holidays": holidays}
    return sent.get("calendar", "").strip(), calendar


def _windows_text(windows: Any) -> str:
    if not isinstance(windows, list):
        return ""
    return ", ".join("-".join(map(str, one)) if isinstance(one, list) else str(one) for one in windows)


def _names(sent: QueryDict, name: str) -> list[str]:
    return [part.strip() for part in sent.get(name, "").split(",") if part.strip()]


def _value(rule: dict[str, Any], match: dict[str, Any], name: str, default: Any) -> Any:
    return match.get(name.removeprefix("match."), default) if name.startswith("match.") else rule.get(name, default)
