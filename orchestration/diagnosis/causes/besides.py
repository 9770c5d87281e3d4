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
            return ToldCause(sentence, None, [], group=read["dataset"][:100])
    return None


def code_moved_on(facts: RunFacts) -> ToldCause | None:
    """The agent's code changed while the run was open, and it goes on in the new code."""
    if not facts.is_open or not facts.run.code_changes:
        return None
    change = facts.run.code_changes[-1]
    sentence = f"The agent's code changed under it; from turn {change['turn']} on it uses the new one: "
    return ToldCause(f"{sentence}{quoted(str(change['changed']))}.", moment(str(change["at"])))
