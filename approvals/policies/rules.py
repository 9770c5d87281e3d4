"""One rule of the policy: what it matches, and what it gives. The JSON in `PolicyVersion.rules` is a list of these."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from approvals.policies.calendars import HORIZON, Calendar, add
from approvals.policies.conditions import BadCondition, Condition, fault_of_numbers
from approvals.proposal.terms import FourEyes, Outcome
from console.roles import ROLES

GROUPS = tuple(role for role in ROLES if role != "service")  # people's roles
VerdictWord = Literal["approve", "edit", "reject", "respond"]
VERDICTS: tuple[VerdictWord, ...] = ("approve", "edit", "reject", "respond")
OUTCOME_VERDICTS = ("approve", "reject")  # of the question whether an effect happened
RULES_LIMIT = 100
ANY = "*"

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "min": 60, "s": 1}
_DURATION = re.compile(r"(?:[0-9]{1,6} ?(?:d|h|min|m|s) ?)+")
_PART = re.compile(r"([0-9]{1,6}) ?(d|h|min|m|s)")
_LONGEST = 366 * 86_400


def seconds_of(text: str) -> int:
    """Return the seconds of a duration such as "90m", "24h" or "1d 12h". Raises ValueError in words."""
    if not _DURATION.fullmatch(text):
        raise ValueError("Write a duration as 90m, 24h, 3d or 1d 12h.")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if not 60 <= seconds <= _LONGEST:
        raise ValueError("A duration is between one minute and 366 days.")
    return seconds


def _duration(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}s"
    if not isinstance(value, str):
        raise ValueError("Write a duration as 90m, 24h, 3d or 1d 12h.")
    seconds_of(value.strip())
    return value.strip()


def _different(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _condition(text: str) -> str:
    text = text.strip()
    if text:
        try:
            Condition(text)
        except BadCondition as exc:
            raise ValueError(str(exc)) from exc
    return text


Duration = Annotated[str, BeforeValidator(_duration)]
Name = Annotated[str, Field(min_length=1, max_length=100)]
Names = Annotated[list[Name], Field(min_length=1, max_length=50), AfterValidator(_different)]


class Match(BaseModel):
    """Which proposals a rule is about. Every part has to fit."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sources: Annotated[list[Literal["agent", "program"]], AfterValidator(_different)] = []  # empty: all
    agents: Names = [ANY]
    tools: Names = [ANY]  # an unknown tool is matched by its exact name only
    kinds: Annotated[list[Literal["action", "outcome"]], Field(min_length=1), AfterValidator(_different)] = ["action"]
    risks: Annotated[list[Literal["low", "medium", "high"]], AfterValidator(_different)] = []  # empty: all


class Rule(BaseModel):
    """One rule as it is written. Reading one does not say that its groups, people and calendar exist."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]+$")]
    match: Match = Match()
    condition: Annotated[str, AfterValidator(_condition)] = ""  # see approvals.policies.conditions; "" always holds

    outcome: Outcome = "ask"
    groups: Annotated[list[str], Field(max_length=10), AfterValidator(_different)] = ["reviewer"]
    people: Annotated[list[Name], Field(max_length=50), AfterValidator(_different)] = []  # user names
    needed: Annotated[int, Field(ge=1, le=20)] | Literal["all"] = 1  # all: every one of `people`
    four_eyes: Annotated[list[FourEyes], AfterValidator(_different)] = ["requester", "editor"]
    verdicts: Annotated[list[VerdictWord], Field(min_length=1), AfterValidator(_different)] = list(VERDICTS)
    remind_after: Duration = "24h"
    escalate_after: Duration = "48h"
    expire_after: Duration = "72h"
    escalate_to: Annotated[list[str], Field(max_length=10), AfterValidator(_different)] = ["admin"]
    calendar: Annotated[str, Field(max_length=60)] = ""  # "" counts every hour
    fresh_sign_in_minutes: Annotated[int, Field(ge=0, le=1440)] = 0
    may_bulk: bool = True
    dwell_seconds: Annotated[int, Field(ge=0, le=600)] = 0
    needs_fresh_data: bool = False  # not approved on data that is not current, or that nobody has confirmed in time
    may_change_fixed: bool = False
    risk: Literal["", "low", "medium", "high"] = ""  # "" keeps the tool's own

    @model_validator(mode="after")
    def _makes_sense(self) -> Rule:
        """Check what no single field can; each sentence begins with the field that it is about."""
        if self.outcome != "ask" and "outcome" in self.match.kinds:
            raise ValueError("outcome: Whether something happened can only be asked of people.")
        if self.outcome == "ask" and not self.groups and not self.people:
            raise ValueError("groups: Somebody has to be named: a group or a person.")
        if "requester" not in self.four_eyes:
            raise ValueError("four_eyes: Nobody decides what they asked for; keep the requester in.")
        if "approve" not in self.verdicts or "reject" not in self.verdicts:
            raise ValueError("verdicts: approve and reject are always possible; the others may be left out.")
        if self.needed == "all" and (self.groups or not self.people):
            raise ValueError("needed: “all” means every person that is named, so name people and no group.")
        if not self.groups and self.needed != "all" and self.needed > len(self.people):
            raise ValueError(f"needed: {self.needed} of {len(self.people)} people can never agree.")
        self._check_ladder()
        return self

    def _check_ladder(self) -> None:
        steps = [seconds_of(step) for step in (self.remind_after, self.escalate_after, self.expire_after)]
        if steps != sorted(steps):
            raise ValueError("expire_after: Remind first, then escalate, then expire; the times have to follow.")
        if self.calendar:
            for name in ("remind_after", "escalate_after", "expire_after"):
                if "d" in getattr(self, name):
                    raise ValueError(f"{name}: With a calendar write hours; a working day has not 24 of them.")

    @property
    def how_many(self) -> int:
        """Return how many different people must agree."""
        return len(self.people) if self.needed == "all" else self.needed


def faults_of(rule: Rule, calendars: dict[str, Calendar]) -> list[str]:
    """Return what the rule names and the console does not know, each as "field: sentence"."""
    faults = []
    for field in ("groups", "escalate_to"):
        unknown = [group for group in getattr(rule, field) if group not in GROUPS]
        if unknown:
            faults.append(f"{field}: There is no group {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
    if fault := fault_of_numbers(rule.condition):
        faults.append(f"condition: {fault}")
    if rule.calendar:
        calendar = calendars.get(rule.calendar)
        if calendar is None:
            faults.append(f"calendar: There is no calendar {rule.calendar}.")
        elif add(_SOME_DAY, seconds_of(rule.expire_after), calendar) > _SOME_DAY + HORIZON / 2:
            faults.append(f"expire_after: By the calendar {rule.calendar} this takes more than a year.")
    return faults


_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def words_of(error: ValidationError) -> list[dict[str, str]]:
    """Return what is wrong as [{"path", "message"}]; a path such as `match.tools` or `condition`."""
    found: list[dict[str, str]] = []
    for one in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in one["loc"] if not str(part).startswith("function-"))
        message = str(one["msg"]).removeprefix("Value error, ")
        named = re.match(r"([a-z_]+): (.+)", message)
        if not path and named:
            path, message = named[1], named[2]
        elif path.startswith("needed."):
            path, message = "needed", "Write a whole number from 1 to 20, or “all”."
        elif one["type"] in _SENTENCES:
            message = _SENTENCES[one["type"]].format(**one.get("ctx", {}))
        if {"path": path, "message": message} not in found:
            found.append({"path": path, "message": message})
    return found


_SENTENCES = {
    "extra_forbidden": "There is no such field.",
    "missing": "This is needed.",
    "string_too_short": "This is needed.",
    "string_too_long": "At most {max_length} characters.",
    "string_pattern_mismatch": "Use one line of printable characters.",
    "too_short": "Choose at least one.",
    "too_long": "At most {max_length}; this has {actual_length}.",
    "int_type": "Write a whole number.",
    "greater_than_equal": "Write {ge} or more.",
    "less_than_equal": "Write {le} or less.",
    "literal_error": "Choose one of: {expected}.",
    "string_type": "Write a text here.",
    "list_type": "Write a list here.",
    "bool_type": "Write true or false.",
    "model_type": "Write an object here, with the fields of a rule or a calendar.",
    "tuple_type": "Write hours as 09:00-17:00.",
    "dict_type": "Write an object here.",
    "date_from_datetime_parsing": "This is not a day; write it as 2026-12-25.",
    "date_parsing": "This is not a day; write it as 2026-12-25.",
}
