"""Rules read aloud: what one is about, what it gives, and how two policies differ. Plain sentences, no markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from approvals.models import Approval
from approvals.policies.rules import ANY, VERDICTS, Rule, words_of
from approvals.proposal.terms import Terms

_HOW_MANY = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WHO = {"requester": "who asked for it", "editor": "who changed it", "owner": "the agent's owner"}


@dataclass(frozen=True)
class RuleCard:
    """One rule for the page."""

    name: str
    about: str  # what it matches, in words
    condition: str  # as written
    outcome: str  # ask, allow, deny, or broken
    gives: str  # the sentence that matters most
    details: tuple[str, ...]


def card_of(raw: Any, place: int) -> RuleCard:
    """Return a rule as a card; one that cannot be read says why."""
    try:
        rule = Rule.model_validate(raw)
    except ValidationError as exc:
        name = raw.get("name") if isinstance(raw, dict) else None
        error = words_of(exc)[0]
        sentence = (
            f"It cannot be used ({error['path'] or 'rule'}: {error['message']}) What reaches it goes to an admin."
        )
        return RuleCard(str(name or f"rule {place}"), "", "", "broken", sentence, ())
    return RuleCard(rule.name, _about(rule), rule.condition, rule.outcome, _gives(rule), _details(rule))


def number(count: int) -> str:
    """Return small numbers as words."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def length(seconds: int) -> str:
    """Return a duration as people say it."""
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (seconds >= size and seconds % size == 0):
            rounded = seconds / size
            amount = f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"
            return f"{amount} {word}{'' if amount == '1' else 's'}"
    return f"{seconds} seconds"


def listed(words: Sequence[str], last: str = "or") -> str:
    """Join words as in a sentence: "a, b or c"."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def changes(now: Terms, then: Terms) -> list[str]:
    """Say what other terms would mean for one proposal, the weightiest first."""
    if now.outcome != then.outcome:
        return [_OUTCOMES[then.outcome]]
    if then.outcome != "ask":
        return []
    said = []
    if then.rule == "fail-safe" and now.rule != "fail-safe":
        said.append("no rule can be used, so it goes to an admin")
    if now.needed != then.needed:
        said.append(f"needs {number(then.needed)} instead of {number(now.needed)}")
    if (now.groups, now.people) != (then.groups, then.people):
        said.append(f"is asked of {_audience(then)} instead of {_audience(now)}")
    more, less = set(then.four_eyes) - set(now.four_eyes), set(now.four_eyes) - set(then.four_eyes)
    said += [f"is kept from {_WHO[one]}" for one in sorted(more)]
    said += [f"is no longer kept from {_WHO[one]}" for one in sorted(less)]
    gone = [verdict for verdict in now.verdicts if verdict not in then.verdicts]
    new = [verdict for verdict in then.verdicts if verdict not in now.verdicts]
    said += [f"takes no {listed(gone)}"] if gone else []
    said += [f"takes {listed(new)} too"] if new else []
    if now.risk != then.risk:
        said.append(f"is {then.risk} risk instead of {now.risk}")
    if now.fresh_sign_in_minutes != then.fresh_sign_in_minutes:
        said.append("needs a recent sign-in" if then.fresh_sign_in_minutes else "needs no recent sign-in")
    if now.dwell_seconds != then.dwell_seconds:
        said.append(f"needs a look of {then.dwell_seconds} seconds")
    if now.may_bulk != then.may_bulk:
        said.append("may be decided in bulk" if then.may_bulk else "may not be decided in bulk")
    if now.needs_fresh_data != then.needs_fresh_data:
        said.append("is approved on fresh data only" if then.needs_fresh_data else "may be approved on stale data")
    if now.may_change_fixed != then.may_change_fixed:
        said.append(f"{'lets' if then.may_change_fixed else 'no longer lets'} a change touch what is fixed")
    ladder = ("remind_after", "escalate_after", "expire_after", "escalate_to", "calendar", "hours")
    if any(getattr(now, one) != getattr(then, one) for one in ladder):
        said.append("gets other deadlines, if it is asked anew")
    return said


_OUTCOMES = {"allow": "needs nobody", "deny": "is never done", "ask": "needs people"}


@dataclass(frozen=True)
class RuleDifference:
    """How one rule differs between two policies."""

    name: str
    kind: str  # added, removed, changed or moved
    fields: tuple[tuple[str, str, str], ...] = ()  # name, before, after
    card: RuleCard | None = None  # of what was added or removed


def compare(before: Sequence[Any], after: Sequence[Any]) -> list[RuleDifference]:
    """Return how a list of rules differs from an earlier one, by the rules' names, in the new order."""
    old, new = _by_name(before), _by_name(after)
    moved = _moved([name for name in old if name in new], [name for name in new if name in old])
    cards = _cards_by_name(old, before) | _cards_by_name(new, after)
    found = []
    for name, rule in new.items():
        if name not in old:
            found.append(RuleDifference(name, "added", card=cards[name]))
        elif rule != old[name]:
            fields = [key for key in {**old[name], **rule} if old[name].get(key) != rule.get(key)]
            told = tuple((key.replace("_", " "), _told(old[name].get(key)), _told(rule.get(key))) for key in fields)
            found.append(RuleDifference(name, "changed", told))
        elif name in moved:
            found.append(RuleDifference(name, "moved"))
    return found + [RuleDifference(name, "removed", card=cards[name]) for name in old if name not in new]


def _by_name(rules: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return each rule's fields by its name, every default spelt out where the rule can be read."""
    found: dict[str, dict[str, Any]] = {}
    for place, raw in enumerate(rules, start=1):
        try:
            plain = Rule.model_validate(raw).model_dump(mode="json")
            plain |= {f"match {key}": value for key, value in plain.pop("match").items()}
        except ValidationError:
            plain = raw if isinstance(raw, dict) else {"rule": raw}
        name = str(plain.get("name") or f"rule {place}")
        found[name if name not in found else f"{name} ({place})"] = plain
    return found


def _cards_by_name(names: Iterable[str], rules: Sequence[Any]) -> dict[str, RuleCard]:
    return {name: card_of(raw, place) for place, (name, raw) in enumerate(zip(names, rules, strict=True), start=1)}


def _moved(old: list[str], new: list[str]) -> set[str]:
    """Return the rules that stand behind one that they stood before, of those in both lists."""
    before = {name: place for place, name in enumerate(old)}
    return {late for early, late in pairwise(new) if before[early] > before[late]}


def _told(value: Any) -> str:
    if value in ("", [], None):
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _about(rule: Rule) -> str:
    match = rule.match
    parts = ["Every tool" if ANY in match.tools else listed(match.tools)]
    if match.kinds == ["outcome"]:
        parts = [f"The question whether {'an effect' if ANY in match.tools else listed(match.tools)} happened"]
    elif "outcome" in match.kinds:
        parts.append("and the question whether it happened")
    parts.append("of every agent" if ANY in match.agents else f"of {listed(match.agents)}")
    if match.sources:
        parts.append(f"asked by {listed([f'a {one}' if one == 'program' else f'an {one}' for one in match.sources])}")
    if match.risks:
        parts.append(f"of {listed(match.risks)} risk")
    return " ".join(parts)


def _gives(rule: Rule) -> str:
    if rule.outcome == "allow":
        return "Needs nobody."
    if rule.outcome == "deny":
        return "Is never done."
    who = people_of(rule.groups, rule.people)
    some = f"All {number(rule.how_many)}" if rule.needed == "all" else number(rule.how_many).capitalize()
    kept = listed([_WHO[one] for one in rule.four_eyes], "nor")
    hours = f" of the calendar {rule.calendar}" if rule.calendar else ""
    return f"{some} of {who}, never {kept}, within {rule.expire_after}{hours}."


def _details(rule: Rule) -> tuple[str, ...]:
    if rule.outcome != "ask":
        return ()
    said = [f"Reminds after {rule.remind_after}"]
    if rule.escalate_to:
        said.append(f"asks {people_of(rule.escalate_to, [])} too after {rule.escalate_after}")
    if set(rule.verdicts) != set(VERDICTS):
        said.append(f"takes {listed(rule.verdicts)} only")
    if rule.fresh_sign_in_minutes:
        said.append(f"needs a sign-in in the last {rule.fresh_sign_in_minutes} min")
    if rule.dwell_seconds:
        said.append(f"needs a look of {rule.dwell_seconds} s")
    if rule.needs_fresh_data:
        said.append("approved on fresh data only")
    if not rule.may_bulk:
        said.append("not in bulk")
    if rule.may_change_fixed:
        said.append("a change may touch what is fixed")
    if rule.risk:
        said.append(f"counts as {rule.risk} risk")
    return tuple(said)


def _audience(terms: Terms) -> str:
    return people_of(terms.groups, terms.people) or "nobody"


def people_of(groups: Sequence[str], people: Sequence[str]) -> str:
    """Say who: everybody with one of the roles, and these: "the reviewers, admins or anna"."""
    roles = [f"{group}s" for group in groups]
    return listed([*(["the " + roles[0], *roles[1:]] if roles else []), *people])


def who_decides(approval: Approval, terms: Terms) -> str:
    """Return who decides under the terms, as a sentence: how many, of whom, and who must not."""
    if terms.outcome == "allow":
        return f"Nobody: by the rule “{terms.rule}” no approval is needed."
    if terms.outcome == "deny":
        return f"Nobody: by the rule “{terms.rule}” this is never done."
    groups = " or ".join(approval.audience)
    people = ", ".join(approval.people)
    whom = " or ".join(filter(None, (f"with the role {groups}" if groups else "", f"named {people}" if people else "")))
    how_many = (
        "One person" if approval.needed == 1 else f"{_HOW_MANY.get(approval.needed, approval.needed)} different people"
    )
    barred = []
    if "requester" in terms.four_eyes and approval.requested_by:
        started = "started the run" if approval.source == Approval.Source.AGENT else "asked for it"
        barred.append(f"{approval.requested_by.username}, who {started}")
    if "editor" in terms.four_eyes and "edit" in approval.verdicts:
        barred.append("whoever changed it")
    if "owner" in terms.four_eyes and approval.agent_owners:
        barred.append(f"the agent's owner {', '.join(approval.agent_owners)}")
    return f"{how_many} {whom}" + (f", but not {', nor '.join(barred)}" if barred else "") + "."
