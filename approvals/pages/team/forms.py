"""What people type about their team: windows of delegation, and what to approve in advance."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.auth.models import User
from django.http import HttpRequest, QueryDict

from approvals.errors import InvalidChange
from approvals.models import Approval
from approvals.people import standing_conditions
from approvals.people.permissions import Permit, wants_somebody
from approvals.services import standing
from console import roles
from console.text.json_paths import leaves_of
from console.text.json_text import NotJson, read_json
from console.text.stored import text_fault

SESSION_ZONE: Final = "zone"
VALUES_LIMIT: Final = 8000  # characters of the values that one argument may have
ZONES: Final = ["UTC", *sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/"))]


def zone_of(request: HttpRequest) -> str:
    """Return the zone that the person chose last, else UTC."""
    chosen = request.session.get(SESSION_ZONE, "")
    return chosen if chosen in ZONES else "UTC"


def keep_zone(request: HttpRequest, zone: str) -> str:
    """Keep a chosen zone for the session and return it; an unknown one changes nothing."""
    if zone in ZONES and zone != request.session.get(SESSION_ZONE):
        request.session[SESSION_ZONE] = zone
    return zone_of(request)


def moment(text: str, zone: str, name: str) -> datetime:
    """Read a date and time as a clock in the zone shows it; aware, UTC. Raises InvalidChange with the field's name."""
    try:
        shown = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        raise InvalidChange(name, "Write the day and the time, such as 2026-12-24 18:00.") from exc
    if shown.tzinfo is not None:
        raise InvalidChange(name, "Write it without a zone; the zone is chosen below.")
    here = ZoneInfo(zone)
    first, second = shown.replace(tzinfo=here, fold=0), shown.replace(tzinfo=here, fold=1)
    if first.utcoffset() != second.utcoffset():
        passes = first.astimezone(UTC).astimezone(here).replace(tzinfo=None, fold=0) == shown
        fault = "shows that time twice" if passes else "skips that time"
        raise InvalidChange(name, f"The clocks change then, and a clock in {zone} {fault}. Choose another time.")
    try:
        return first.astimezone(UTC)
    except OverflowError as exc:
        raise InvalidChange(name, "That year is out of reach.") from exc


@dataclass
class WindowForm:
    """A delegation as it was typed, with what is wrong with it by field."""

    principal: str = ""
    to: str = ""
    starts_at: str = ""
    ends_at: str = ""
    zone: str = "UTC"
    reason: str = ""
    faults: dict[str, str] = field(default_factory=dict)

    @classmethod
    def sent(cls, sent: QueryDict, zone: str) -> WindowForm:
        names = ("principal", "to", "starts_at", "ends_at", "reason")
        typed: dict[str, Any] = {name: sent.get(name, "").strip() for name in names}
        return cls(**typed, zone=zone)

    def account(self, username: str, name: str) -> User:
        found = User.objects.filter(username=username).first()
        if found is None:
            raise InvalidChange(name, "Choose somebody from the list.")
        return found


def who_may_decide() -> list[str]:
    """Return the user names of the active accounts that may decide anything. One query."""
    able = User.objects.filter(is_active=True, groups__name__in=roles.PERMISSIONS["decide"])
    return list(able.order_by("username").values_list("username", flat=True).distinct())


@dataclass
class StandingRow:
    """One argument of the request, and what to hold it to."""

    index: int
    path: str
    exact: str
    may_bound: bool
    rule: str = "is"
    most: str = ""
    values: str = ""  # one on each line
    fault: str = ""

    def condition(self) -> standing_conditions.Condition:
        if self.rule == "at_most":
            return {"path": self.path, "at_most": self.most.strip()}
        if self.rule == "one_of":
            if fault := text_fault(self.values, VALUES_LIMIT):
                raise standing_conditions.InvalidCondition(self.path, fault)
            return {
                "path": self.path,
                "one_of": [self._read(line) for line in self.values.splitlines() if line.strip()],
            }
        return {"path": self.path, "is": json.loads(self.exact)}

    def _read(self, line: str) -> Any:
        if isinstance(json.loads(self.exact), str):
            return line
        try:
            return read_json(line)
        except NotJson as exc:
            words = f"“{line[:40]}” is not JSON, as the value itself is."
            raise standing_conditions.InvalidCondition(self.path, words) from exc


@dataclass
class StandingForm:
    """What `_standing_form.html` shows: the request's arguments as they are, and what was typed."""

    approval: Approval
    rows: list[StandingRow]
    reason: str = ""
    uses: str = "10"
    days: str = "7"
    faults: dict[str, str] = field(default_factory=dict)

    most_uses = standing.MOST_USES
    most_days = standing.LONGEST.days

    @property
    def is_open(self) -> bool:
        """Return whether the form has something to say, so that it stands open."""
        return bool(self.faults) or any(row.fault for row in self.rows)

    def take(self, sent: QueryDict) -> None:
        """Keep what was typed."""
        self.reason, self.uses, self.days = (sent.get(name, "") for name in ("reason", "uses", "days"))
        for row in self.rows:
            row.rule = sent.get(f"rule-{row.index}", "is")
            row.values = sent.get(f"values-{row.index}", "")
            if row.may_bound:
                row.most = sent.get(f"most-{row.index}", "")

    def blame(self, fault: Exception) -> None:
        """Put what is wrong beside what it is about."""
        field = fault.field if isinstance(fault, InvalidChange) else ""
        is_of_a_row = isinstance(fault, standing_conditions.InvalidCondition)
        rows = [row for row in self.rows if is_of_a_row and row.path == field]
        for row in rows:
            row.fault = str(fault)
        if not rows:
            self.faults[field] = str(fault)

    def number(self, name: str) -> int:
        text = getattr(self, name).strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 6):
            raise InvalidChange(name, "Write a whole number.")
        return int(text)


def standing_form(user: User, approval: Approval, permit: Permit) -> StandingForm | None:
    """Return the form for a request like which somebody may want to approve all, `None` where that is not offered.

    No query: the service asks again, and more closely. `permit`: from `may_decide`.
    """
    terms = approval.given_terms
    is_offered = (
        approval.is_open
        and approval.kind == Approval.Kind.ACTION
        and approval.tool_is_known
        and permit.allowed
        and permit.on_behalf_of is None
        and roles.may(user, "decide")
        and "approve" in approval.verdicts
        and not wants_somebody(terms)
        and approval.risk != "high"
    )
    return blank_standing_form(approval) if is_offered else None


def blank_standing_form(approval: Approval) -> StandingForm:
    """Return the form that holds every argument to exactly what it is."""
    leaves = dict(leaves_of(approval.arguments))
    rows = [
        StandingRow(index, path, exact, standing_conditions.is_number(exact), values=_line(exact))
        for index, (path, exact) in enumerate(leaves.items())
    ]
    return StandingForm(approval, rows)


def _line(exact: str) -> str:
    value = json.loads(exact)
    return value if isinstance(value, str) else exact
