"""What does not keep the run from going on, and should be known all the same."""

from __future__ import annotations

from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.told import ToldCause, moment, quoted


def data_stale(facts: RunFacts) -> ToldCause | None:
    """What it has read is not current, or nobody has confirmed it in time."""
    if not facts.is_open:
        return None
    for read in facts.reads:
        if not read["is_fresh"]:
            name, note = quoted(read["dataset"]), quoted(read["note"])
            sentence = f"Its data {name} version {read['version']} may be out of date: {note}. An admin can refresh it."
            link = ("The data", "dataplane:dataset", read["dataset"])
            return ToldCause(sentence, None, [], group=read["dataset"][:100], links=(link,))
    return None


def flow_late(facts: RunFacts) -> ToldCause | None:
    """The refresh of what it has read was due, and nobody has begun it."""
    return _trouble(facts, "flow_late")


def flow_crashed(facts: RunFacts) -> ToldCause | None:
    """The refresh of what it has read crashed."""
    return _trouble(facts, "flow_crashed")


def flow_unheard(facts: RunFacts) -> ToldCause | None:
    """Nobody can say whether the process that refreshes what it has read lives."""
    return _trouble(facts, "flow_unheard")


def slot_held(facts: RunFacts) -> ToldCause | None:
    """The refresh of what it has read waits for a place that another flow run holds."""
    return _trouble(facts, "slot_held")


def _trouble(facts: RunFacts, kind: str) -> ToldCause | None:
    for name, one in sorted(facts.troubles.items()):
        if one.kind == kind and facts.is_open:
            links = (("The flow run", "dataplane:flow_run", one.flow_run_id),) if one.flow_run_id else ()
            return ToldCause(quoted(one.sentence) + ".", one.since, [], group=name[:100], links=links)
    return None


def batch_held(facts: RunFacts) -> ToldCause | None:
    """The batch that it belongs to starts nothing more for now."""
    if facts.hold is None or not facts.run.batch:
        return None
    link = ("The batch", "orchestration:batch", facts.run.batch)
    return ToldCause(f"Its batch starts nothing more: {quoted(facts.hold.sentence)}.", facts.hold.since, links=(link,))


def code_moved_on(facts: RunFacts) -> ToldCause | None:
    """The agent's code changed while the run was open, and it goes on in the new code."""
    if not facts.is_open or not facts.run.code_changes:
        return None
    change = facts.run.code_changes[-1]
    sentence = f"The agent's code changed under it; from turn {change['turn']} on it uses the new one: "
    return ToldCause(f"{sentence}{quoted(str(change['changed']))}.", moment(str(change["at"])))
