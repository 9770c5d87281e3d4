"""Say of runs why they stand where they stand: the upper cause of the table that fits the facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.urls import reverse

from console import roles
from orchestration.actions.table import ACTIONS
from orchestration.diagnosis import look
from orchestration.diagnosis.facts import RunFacts, facts_of
from orchestration.diagnosis.look import LatestLook, Look
from orchestration.diagnosis.table import BESIDES, CAUSES, Cause
from orchestration.diagnosis.told import State, ToldCause
from orchestration.models import Run


@dataclass(frozen=True)
class Offer:
    """One action that would help, if the person may take it."""

    name: str
    title: str
    icon: str
    permitted: bool
    url: str
    is_grave: bool  # it withdraws or ends something, so it is not put first to a tired eye


@dataclass(frozen=True)
class Also:
    """Something that should be known besides."""

    cause: str
    sentence: str
    since: datetime | None
    links: list[tuple[str, str]] = field(default_factory=list)  # words, address


@dataclass(frozen=True)
class Diagnosis:
    """Why a run stands where it stands. `sentence` may quote others; what is not visible in them is written out."""

    run_id: str
    cause: Cause
    state: State
    sentence: str
    since: datetime | None
    who: list[str]  # user names
    group: str  # of all runs that one cure helps
    heading: str
    links: list[tuple[str, str]] = field(default_factory=list)  # words, address
    also: list[Also] = field(default_factory=list)
    look: Look | None = None
    unknown: str = ""  # what could not be asked, a sentence; "" when everything is known

    @property
    def whole(self) -> str:
        """Return the sentence with what should be known besides."""
        return " ".join([self.sentence, *(one.sentence for one in self.also)])

    @property
    def needs_somebody(self) -> bool:
        return self.state == "stuck"


def diagnose_many(
    runs: Sequence[Run], looks: dict[str, Look | None] | None = None, causes: Sequence[Cause] = CAUSES
) -> list[Diagnosis]:
    """Diagnose runs by their rows and by what was last seen of them. A constant number of queries."""
    return [diagnosis_of(facts, causes) for facts in facts_of(runs, looks=looks)] if runs else []


def diagnose(run: Run) -> Diagnosis:
    """Diagnose one run for a page, which waits a moment for Temporal and then says that it does not know."""
    answer = LatestLook(None)
    if run.status in Run.OPEN and run.status != Run.Status.STARTING:
        answer = look.now(run.pk, run.seen)
    (facts,) = facts_of([run], looks={run.pk: answer.look}, away=answer.away, for_page=True)
    return diagnosis_of(facts)


def diagnosis_of(facts: RunFacts, causes: Sequence[Cause] = CAUSES) -> Diagnosis:
    """Return what is told of the facts: the first of the causes that fits."""
    cause, told = next(
        ((cause, told) for cause in causes if (told := cause.find(facts)) is not None), (causes[-1], _NOTHING)
    )
    besides = [(one, said) for one in BESIDES if one.name != cause.name and (said := one.find(facts)) is not None]
    return Diagnosis(
        run_id=facts.run.pk,
        cause=cause,
        state=told.state or cause.state,
        sentence=told.sentence,
        since=told.since,
        who=told.who,
        group=f"{cause.name}:{told.group}" if told.group else cause.name,
        heading=told.about or cause.heading,
        links=_addresses(told),
        also=[Also(one.name, said.sentence, said.since, _addresses(said)) for one, said in besides],
        look=facts.look,
        unknown=f"Temporal was not heard: {facts.away}." if facts.away else "",
    )


def _addresses(told: ToldCause) -> list[tuple[str, str]]:
    return [(words, reverse(name, args=[given])) for words, name, given in told.links]


_NOTHING = ToldCause("Nothing here says why it stands where it stands.", None, [], "healthy")


def offers(diagnosis: Diagnosis, user: AbstractBaseUser | AnonymousUser, run: Run) -> list[Offer]:
    """Return the actions that help and can be taken now, the best first; `permitted`: by the person's role."""
    permitted = roles.may(user, "act_on_run")
    named = [ACTIONS[name] for name in diagnosis.cause.actions if name in ACTIONS]
    return [
        Offer(
            one.name,
            one.button,
            one.icon,
            permitted,
            reverse("orchestration:act", args=[run.pk, one.name]),
            one.is_grave,
        )
        for one in named
        if one.is_offered(run)
    ]


def as_json(diagnosis: Diagnosis, user: AbstractBaseUser | AnonymousUser, run: Run) -> dict[str, Any]:
    """Return the public shape."""
    found = offers(diagnosis, user, run)
    return {
        "state": diagnosis.state,
        "sentence": diagnosis.whole,
        "cause": diagnosis.cause.name,
        "since": diagnosis.since,
        "who": diagnosis.who,
        "actions": [{"name": one.name, "title": one.title, "permitted": one.permitted} for one in found],
        "also": [{"cause": one.cause, "sentence": one.sentence, "since": one.since} for one in diagnosis.also],
        "not_known": diagnosis.unknown or None,
    }
