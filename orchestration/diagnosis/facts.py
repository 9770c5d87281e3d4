"""What the rows say about runs, for their diagnosis: a constant number of queries, however many runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal

from django.contrib.auth.models import User
from django.db.models import Prefetch, Q

from approvals.models import Approval, Decision, ReceiptStep
from approvals.reading.reach import Waiting, whom_of
from console import ports
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from console.ports import DataTrouble, Read
from dataplane.currency import told_of_all
from orchestration import checkpoint_gateway
from orchestration.agents.registry import agents
from orchestration.batches import feeding
from orchestration.batches.feeding import Hold
from orchestration.diagnosis.look import Look, read
from orchestration.diagnosis.parts import Parts, parts_now
from orchestration.failing import Failure, failure_of
from orchestration.models import Effect, Run

#: who has the next step: the relay and Temporal, which start or tell it; people; or a worker
Next = Literal["start", "people", "delivery", "worker", "nobody"]
OPERATORS_NAMED = 10
#: what tells Temporal that somebody has asked for an end
ENDING = (Kind.CANCEL_RUN, Kind.TERMINATE_RUN, Kind.FAIL_TURN)


@dataclass(frozen=True)
class RunFacts:
    """All that is known about one run."""

    run: Run
    now: datetime
    parts: Parts
    approvals: list[Approval]  # of the run, those that are pending or whose answer it has not taken up; oldest first
    waiting: dict[str, Waiting]  # of the pending ones, by id
    entries: list[OutboxEntry]  # that are to start, tell or end the run, and have not arrived
    effects: list[Effect]  # that have not ended, or nobody knows how
    reads: list[Read]
    look: Look | None
    away: str = ""  # why Temporal could not be asked just now
    has_checkpoints: bool = True  # those that the row names are there
    operators: list[str] = field(default_factory=list)  # the user names of those who may act on runs
    troubles: dict[str, DataTrouble] = field(default_factory=dict)  # of what it has read, by dataset
    hold: Hold | None = None  # why its batch starts nothing more; known on a page only

    @property
    def is_open(self) -> bool:
        return self.run.status in Run.OPEN

    @cached_property
    def pending(self) -> list[Approval]:
        return [one for one in self.approvals if one.is_open]

    @cached_property
    def unheard(self) -> list[Approval]:
        """What was answered and lets the run go on, for no other place of the same question is open."""
        open_questions = {one.interrupt_id for one in self.pending}
        return [one for one in self.approvals if one not in self.pending and one.interrupt_id not in open_questions]

    @cached_property
    def failure(self) -> Failure | None:
        return failure_of(self.run)

    @cached_property
    def next(self) -> Next:
        """Return who has the next step, without which nothing else helps."""
        if not self.is_open:
            return "nobody"
        if self.run.ending:
            return "delivery" if self.entries_of(*ENDING) else "worker"
        if self.run.status == Run.Status.STARTING or self.entries_of(Kind.RESTART_RUN):
            return "start"
        if self.run.status != Run.Status.WAITING:
            return "worker"
        if self.unheard:
            told = {str(entry.payload.get("approval_id")) for entry in self.entries_of(Kind.DECIDED)}
            return "delivery" if all(one.pk in told for one in self.unheard) else "worker"
        return "people" if self.pending else "worker"

    def entries_of(self, *kinds: Kind) -> list[OutboxEntry]:
        return [entry for entry in self.entries if entry.kind in kinds]

    @property
    def turn_seconds(self) -> int:
        agent = agents().get(self.run.agent)
        return agent.turn_seconds if agent else 600

    def turn_ends_at(self) -> datetime | None:
        """Return by when the attempt under way has to end."""
        turn = self.look.turn if self.look else None
        if turn is None or not turn.is_at_work or not turn.since:
            return None
        return datetime.fromisoformat(turn.since) + timedelta(seconds=self.turn_seconds)


def facts_of(
    runs: Sequence[Run], *, looks: dict[str, Look | None] | None = None, away: str = "", for_page: bool = False
) -> list[RunFacts]:
    """Gather what is known of the runs, in their order. Seventeen queries at most, however many runs.

    `for_page`: with what costs some queries for each run.

    `looks`: newer ones than those that the rows keep. `away`: why Temporal could not be asked.
    """
    now, parts = database_now(), parts_now()
    ids = [run.pk for run in runs]
    by_run: dict[str, list[Approval]] = defaultdict(list)
    for approval in _approvals(ids):
        by_run[approval.run_id].append(approval)
    waiting = whom_of([one for found in by_run.values() for one in found if one.is_open])
    entries: dict[str, list[OutboxEntry]] = defaultdict(list)
    for entry in OutboxEntry.objects.filter(delivered_at=None, subject__in=ids, kind__in=_KINDS).order_by("id"):
        entries[entry.subject].append(entry)
    effects: dict[str, list[Effect]] = defaultdict(list)
    not_ended = Q(status=Effect.Status.EXECUTING) | Q(status=Effect.Status.UNKNOWN)
    for effect in Effect.objects.filter(not_ended, run_id__in=ids).order_by("started_at"):
        effects[effect.run_id].append(effect)
    reads = told_of_all([run.dataset_versions for run in runs])
    named = sorted({str(read["dataset"]) for run in runs if run.status in Run.OPEN for read in run.dataset_versions})
    troubles = ports.data_plane().troubles_of(named) if named else {}
    gone = checkpoint_gateway.missing([(run.pk, run.checkpoint_id) for run in runs if run.checkpoint_id])
    operators = operator_names()
    newer = looks or {}
    return [
        RunFacts(
            run=run,
            now=now,
            parts=parts,
            approvals=by_run[run.pk],
            waiting=waiting,
            entries=entries[run.pk],
            effects=effects[run.pk],
            reads=found,
            look=newer.get(run.pk) or read(run.seen),
            away=away,
            has_checkpoints=run.pk not in gone,
            operators=operators,
            troubles={read["dataset"]: troubles[read["dataset"]] for read in found if read["dataset"] in troubles},
            hold=feeding.held_back(run.batch) if for_page and run.batch and run.status in Run.OPEN else None,
        )
        for run, found in zip(runs, reads, strict=True)
    ]


_KINDS = (Kind.START_RUN, Kind.RESTART_RUN, Kind.DECIDED, *ENDING)


#: what says that the run has an answer, or will never be given it
_OVER = (ReceiptStep.Step.RESUMED, ReceiptStep.Step.REFUSED)


def _approvals(run_ids: Sequence[str]) -> list[Approval]:
    """Return what the runs wait for, and what was answered and has not been taken up."""
    pending = Q(status=Approval.Status.PENDING)
    answered = Q(status__in=(Approval.Status.DECIDED, Approval.Status.EXPIRED))
    rows = Approval.objects.filter(pending | answered, run_id__in=run_ids, source=Approval.Source.AGENT)
    decisions = Prefetch("decisions", Decision.objects.select_related("by", "on_behalf_of").order_by("number"))
    rows = rows.exclude(answered, receipt__step__in=_OVER).prefetch_related(decisions, "receipt")
    return list(rows.defer("canonical", "arguments_schema", "agent_words", "search_words").order_by("opened_at", "pk"))


def operator_names() -> list[str]:
    """Return the user names of the active operators, of the admins where there is none."""
    active = User.objects.filter(is_active=True, groups__name__in=("operator", "admin")).order_by("username")
    found: dict[str, list[str]] = {"operator": [], "admin": []}
    for username, role in active.values_list("username", "groups__name"):
        found.setdefault(role, []).append(username)
    return (found["operator"] or found["admin"])[:OPERATORS_NAMED]
