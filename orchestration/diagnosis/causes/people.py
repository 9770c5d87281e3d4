"""Runs whose next step is a person's, by the rows of what they asked."""

from __future__ import annotations

from approvals.models import Approval
from approvals.reading.reach import Waiting
from console.text.visible import one_line
from orchestration.diagnosis.facts import RunFacts
from orchestration.diagnosis.told import ToldCause, at, names, quoted
from orchestration.models import Effect


def nobody_could_decide(facts: RunFacts) -> ToldCause | None:
    """Too few active people are left for one of the requests, so it would stand until its deadline."""
    for one in _waiting(facts):
        if one.stranded is not None:
            sentence = f"It waits for a decision that cannot come: {one_line(one.stranded.sentence)}"
            link = ("The request", "approvals:approval", one.approval.pk)
            return ToldCause(sentence, one.approval.opened_at, facts.operators, links=(link,))
    return None


def effect_unknown(facts: RunFacts) -> ToldCause | None:
    """An attempt to do something was cut off, and only a person can find out whether it happened."""
    unknown = [one for one in facts.effects if one.status == Effect.Status.UNKNOWN]
    if not facts.is_open or not unknown:
        return None
    questions = [one for one in _waiting(facts) if one.approval.kind == Approval.Kind.OUTCOME]
    what = f"Nobody saw whether {quoted(unknown[0].tool)} happened: the attempt was cut off."
    if questions:
        one = questions[0]
        sentence = f"{what} {_whom(one)} has to say so until {at(one.approval.due_at)}."
        link = ("Say whether it happened", "approvals:approval", one.approval.pk)
        return ToldCause(sentence, unknown[0].started_at, one.able, links=(link,))
    if facts.next != "people":
        return None  # it is about to ask, or takes the answer up: whatever keeps it from that is told
    link = ("The decision behind it", "approvals:approval", unknown[0].pk)
    return ToldCause(f"{what} The run has not asked a person.", unknown[0].started_at, facts.operators, links=(link,))


def past_its_deadline(facts: RunFacts) -> ToldCause | None:
    """A request is past its end, and the relay, which closes it, is not there."""
    if facts.next != "people" or facts.parts.relay_since is None:
        return None
    late = [one for one in facts.pending if one.due_at <= facts.now]
    if not late:
        return None
    sentence = (
        f"The request “{quoted(late[0].summary)}” is past its deadline of {at(late[0].due_at)}, and no relay is alive "
        f"to close it since {at(facts.parts.relay_since)}."
    )
    return ToldCause(sentence, late[0].due_at, facts.operators)


def waiting_for_people(facts: RunFacts) -> ToldCause | None:
    """The usual wait: for whom by name, for what, and until when."""
    if facts.next != "people":
        return None
    waiting = _waiting(facts)
    if not waiting:
        return None
    first = min(waiting, key=lambda one: (one.approval.due_at, one.approval.pk))
    more = len(waiting) - 1
    others = f" It waits for {more} more decision{'' if more == 1 else 's'} besides." if more else ""
    needed = f" Needed: {first.missing} of them." if first.missing > 1 else ""
    sentence = (
        f"Waits for {_whom(first)} to decide “{quoted(first.approval.summary)}” until {at(first.approval.due_at)}, "
        f"then it expires and the agent is told so.{needed}{others}"
    )
    everybody = sorted({name for one in waiting for name in one.able})
    since = min(one.approval.opened_at for one in waiting)
    return ToldCause(sentence, since, everybody)


def _waiting(facts: RunFacts) -> list[Waiting]:
    if facts.next != "people":
        return []
    return [facts.waiting[one.pk] for one in facts.pending if one.pk in facts.waiting]


def _whom(one: Waiting) -> str:
    return names(one.able) or "somebody"
