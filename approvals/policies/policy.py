"""A whole policy, compiled: the rules in order, and the terms they give. Reads nothing and knows no database.

The first rule that matches decides. A rule that cannot be used, wholly or for this proposal, is never skipped in
favour of a laxer one below it: what reaches it fails safe. So does what no rule matches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from approvals.policies.calendars import Calendar, read_calendars
from approvals.policies.conditions import Condition, Undecided, Values
from approvals.policies.rules import ANY, OUTCOME_VERDICTS, Match, Rule, faults_of, seconds_of, words_of
from approvals.proposal.terms import FAIL_SAFE, Facts, Terms


@dataclass(frozen=True)
class RuleEntry:
    """One place in the list: a rule that can be used, or why it cannot."""

    name: str
    match: Match | None  # None: nobody can tell what it is about, so it is about everything
    rule: Rule | None
    fault: str = ""
    condition: Condition | None = None

    def may_match(self, facts: Facts) -> bool:
        """Return whether the proposal is what the rule is about, its condition aside."""
        match = self.match
        if match is None:
            return True
        tools = match.tools if facts.is_known else [tool for tool in match.tools if tool != ANY]
        return (
            (not match.sources or facts.source in match.sources)
            and (ANY in match.agents or facts.agent in match.agents)
            and (ANY in tools or facts.tool in tools)
            and facts.kind in match.kinds
            and (not match.risks or facts.risk in match.risks)
        )


class Policy:
    """Rules and calendars of one version, ready to be asked; safe to share between threads."""

    def __init__(self, label: str, rules: Any, calendars: Any) -> None:
        """Compile what a version holds. Nothing is refused here: what cannot be used fails safe when it is reached."""
        self.label = label
        self.calendars: dict[str, Calendar] = {}
        self._fault = ""
        try:
            self.calendars = read_calendars(calendars)
        except ValueError:
            self._fault = "its calendars cannot be read"
        if not isinstance(rules, list):
            self._fault = "its rules are not a list"
        self.entries = [] if self._fault else [self._entry(place, raw) for place, raw in enumerate(rules, start=1)]

    def terms_for(self, facts: Facts) -> Terms:
        """Return the terms for one proposal."""
        if self._fault:
            return self._fail_safe(f"The policy cannot be used: {self._fault}.")
        asked = _Asked(facts)
        for entry in self.entries:
            if not entry.may_match(facts):
                continue
            if entry.rule is None:
                return self._fail_safe(f"The rule “{entry.name}” cannot be used: {entry.fault}")
            try:
                if entry.condition is not None and not asked.holds(entry.condition):
                    continue
            except Undecided as exc:
                return self._fail_safe(f"The condition of the rule “{entry.name}” has no answer here: {exc}.")
            if entry.rule.outcome == "allow" and not facts.is_known:
                return self._fail_safe(f"The tool {facts.tool} is unknown, so people decide.")
            return self._terms(entry.rule, facts)
        if not facts.is_known:
            return self._fail_safe(f"No rule names the tool {facts.tool}.")
        return self._fail_safe("No rule matches.")

    def _fail_safe(self, reason: str) -> Terms:
        return replace(FAIL_SAFE, policy_version=self.label, reason=reason)

    def _terms(self, rule: Rule, facts: Facts) -> Terms:
        is_question = facts.kind == "outcome"
        return Terms(
            rule=rule.name,
            policy_version=self.label,
            outcome=rule.outcome,
            groups=tuple(rule.groups),
            people=tuple(rule.people),
            needed=rule.how_many,
            four_eyes=tuple(rule.four_eyes),
            verdicts=tuple(one for one in rule.verdicts if not is_question or one in OUTCOME_VERDICTS),
            remind_after=seconds_of(rule.remind_after),
            escalate_after=seconds_of(rule.escalate_after),
            expire_after=seconds_of(rule.expire_after),
            escalate_to=tuple(rule.escalate_to),
            calendar=rule.calendar,
            hours=self._hours.get(rule.calendar, {}),
            fresh_sign_in_minutes=rule.fresh_sign_in_minutes,
            may_bulk=rule.may_bulk,
            dwell_seconds=rule.dwell_seconds,
            needs_fresh_data=rule.needs_fresh_data,
            may_change_fixed=rule.may_change_fixed,
            risk=rule.risk or facts.risk,
        )

    @cached_property
    def _hours(self) -> dict[str, dict[str, Any]]:
        return {name: calendar.model_dump(mode="json") for name, calendar in self.calendars.items()}

    def _entry(self, place: int, raw: Any) -> RuleEntry:
        name = raw.get("name") if isinstance(raw, dict) else None
        name = name[:80] if isinstance(name, str) and name else f"rule {place}"
        try:
            rule = Rule.model_validate(raw)
        except ValidationError as exc:
            first = words_of(exc)[0]
            return RuleEntry(name, _match_of(raw), None, f"{first['path'] or 'it'}: {first['message']}")
        faults = faults_of(rule, self.calendars)
        if faults:
            return RuleEntry(name, rule.match, None, faults[0])
        return RuleEntry(name, rule.match, rule, condition=Condition(rule.condition) if rule.condition else None)


class _Asked:
    """One proposal; its arguments are measured when the first condition asks."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def holds(self, condition: Condition) -> bool:
        """Return whether the condition holds. Raises Undecided."""
        return condition.holds(self._with_age if condition.asks_for_age else self._values)

    @cached_property
    def _values(self) -> Values:
        facts = self._facts
        return Values.of(facts.arguments, agent=facts.agent, tool=facts.tool, risk=facts.risk)

    @cached_property
    def _with_age(self) -> Values:
        """The same with how old the data is, which is looked up only for a condition that asks."""
        return replace(self._values, names=self._values.names | {"stale": self._facts.is_stale()})


def _match_of(raw: Any) -> Match | None:
    """Return what an unusable rule is about, if at least that can be read."""
    read: Callable[[Any], Match] = Match.model_validate
    try:
        return read(raw.get("match", {})) if isinstance(raw, dict) else None
    except ValidationError:
        return None
