"""What pages, the API and other layers read about runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.search import SearchVectorField
from django.db import connection
from django.db.models import F, Func, JSONField, Q, QuerySet, TextField, Value

from approvals.models import Approval, ReceiptStep
from approvals.reading import for_runs
from approvals.reading.listing import has_words, with_words
from approvals.reading.reach import stranded, waiting_for_whom
from console import roles
from console.clock import shown_now
from console.lists.capped import COUNT_CAP
from console.lists.keyset import Order, page_after
from console.models import OutboxEntry
from console.ports import Stranded
from orchestration import prices, signal_pairs, signal_rules
from orchestration.agents.registry import agents
from orchestration.diagnosis.told import names
from orchestration.errors import NoSuchRun
from orchestration.failing import Failure, failure_of
from orchestration.models import AnswerDelivery, Effect, Run, SignalPair
from orchestration.state import kept_marks
from orchestration.state.secrets import hidden_of
from orchestration.titles import title_of


def visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Run]:
    """Return the runs that the user may see: all with a role that sees, a service account its own."""
    if roles.may(user, "see"):
        return Run.objects.all()
    if roles.has_role(user, "service"):
        return Run.objects.filter(requested_by_id=user.pk)
    return Run.objects.none()


def run_for(user: AbstractBaseUser | AnonymousUser, run_id: str) -> Run:
    """Return one run. Raises NoSuchRun, also for what may not be seen."""
    found = visible_to(user).select_related("requested_by").filter(pk=run_id).first()
    if found is None:
        raise NoSuchRun(NoSuchRun.__doc__)
    return found


@dataclass(frozen=True)
class RunRow:
    """One line of the runs list."""

    run: Run
    waiting_for: list[str]  # ids of pending approvals, oldest first
    people: list[str] = field(default_factory=list)  # user names of those who could decide the first of them

    @cached_property
    def title(self) -> str:
        return title_of(self.run)

    @property
    def whom(self) -> str:
        """Return whom it waits for, "" when it waits for nobody."""
        if not self.waiting_for:
            return ""
        more = f", and {len(self.waiting_for) - 1} more" if len(self.waiting_for) > 1 else ""
        return f"{names(self.people, 2) or 'nobody who could'}{more}"

    @property
    def took(self) -> timedelta | None:
        """Return how long it ran, or has run so far, its waits for people included; `None` before it began."""
        if self.run.started_at is None:
            return None
        return (self.run.closed_at or shown_now()) - self.run.started_at

    @property
    def tokens(self) -> int:
        usage = self.run.usage
        return int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)

    @property
    def cost(self) -> str:
        """Return what its models have cost, "" where no price is known."""
        return prices.words(self.run.usage.get("cost_micros"))

    @property
    def failure(self) -> Failure | None:
        return failure_of(self.run)


def counts() -> dict[str, int]:
    """Return how many runs there are of each status, and how many are stuck, each COUNT_CAP at most. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, {"statuses": Run.Status.values, "most": COUNT_CAP})
        return dict(cursor.fetchall())


_COUNTS = """
SELECT s.status, (SELECT count(*) FROM (SELECT FROM orchestration_run r WHERE r.status = s.status LIMIT %(most)s) AS x)
FROM unnest(%(statuses)s::text[]) AS s (status)
UNION ALL SELECT 'stuck', count(*) FROM (SELECT FROM orchestration_run WHERE cause <> '' LIMIT %(most)s) AS x
"""


def count_fitting(
    user: AbstractBaseUser | AnonymousUser,
    *,
    status: str = "",
    agent: str = "",
    search: str = "",
    is_stuck: bool = False,
    cause: str = "",
) -> int:
    """Return how many runs fit, COUNT_CAP at most. One query."""
    return _fitting(user, status, agent, search, is_stuck, cause).order_by()[:COUNT_CAP].count()


def _fitting(
    user: AbstractBaseUser | AnonymousUser, status: str, agent: str, search: str, is_stuck: bool, cause: str
) -> QuerySet[Run]:
    rows = visible_to(user)
    if status:
        rows = rows.filter(status=status)
    if agent:
        rows = rows.filter(agent=agent)
    if is_stuck:
        rows = rows.exclude(cause="")
    if cause:
        rows = rows.filter(Q(cause_group=cause) | Q(cause=cause))
    if search.strip():
        rows = rows.filter(_with_words(search))
    return rows


def _with_words(search: str) -> Q:
    """Return whether the run has all the words, or their beginnings, of the search over requests. One query.

    Where the agent's author hides something the words are looked for once more in what is shown, of an agent that
    nobody knows in its name and the run's id: a search must not guess at the rest.
    """
    known = {*agents(), *kept_marks.kept()}
    hidden = {agent: sorted(".".join(name) for name in hidden_of(agent).names) for agent in known}
    no_input = Value({}, output_field=JSONField())
    nothing = Func("id", "agent", no_input, function="signalbox_run_words", output_field=SearchVectorField())
    shown = Q(agent__in=[agent for agent, secret in hidden.items() if not secret])
    shown |= Q(has_words(nothing, search)) & ~Q(agent__in=known)  # nobody can say what is hidden of theirs
    for agent, secret in hidden.items():
        if secret:
            marked = Value(secret, output_field=ArrayField(TextField()))
            rest = Func(F("input"), marked, function="signalbox_without", output_field=JSONField())
            words = Func("id", "agent", rest, function="signalbox_run_words", output_field=SearchVectorField())
            shown |= Q(has_words(words, search), agent=agent)
    return with_words(search, "signalbox_runs_with") & shown


@dataclass(frozen=True)
class RunPage:
    """One page of runs; `next_cursor` is `None` at the end."""

    rows: list[RunRow]
    next_cursor: str | None


def runs_page(
    user: AbstractBaseUser | AnonymousUser,
    *,
    status: str = "",
    agent: str = "",
    search: str = "",
    is_stuck: bool = False,
    cause: str = "",
    cursor: str = "",
    limit: int = 50,
    with_people: bool = False,
) -> RunPage:
    """Return one page of runs, newest first; keyset, never an offset. Two queries, or eight `with_people`."""
    rows = _fitting(user, status, agent, search, is_stuck, cause).select_related("requested_by")
    shown, next_cursor = page_after(rows, NEWEST_RUN_FIRST, cursor, limit)
    waiting = for_runs.waiting_of_runs([run.pk for run in shown])
    first = [found[0] for found in waiting.values() if found] if with_people else []
    people = {pk: one.able for pk, one in waiting_for_whom(first).items()}
    return RunPage(
        [
            RunRow(run, waiting.get(run.pk, []), people.get(next(iter(waiting.get(run.pk, [])), ""), []))
            for run in shown
        ],
        next_cursor,
    )


NEWEST_RUN_FIRST: Final = Order("runs", ("created_at", "id"), (datetime, str), is_descending=True)
ASKED: Final = 15  # requests on a run's page
WAITING: Final = 6  # of them, those that wait, shown above all else


@dataclass(frozen=True)
class RunStory:
    """What the run page shows beside the run itself. A run may have hundreds of requests: it holds a page of them."""

    run: Run
    approvals: list[Approval]
    effects: list[Effect]  # of these approvals
    stranded: dict[str, Stranded]  # by approval id: what too few people can decide
    waiting_for: list[Approval]  # the soonest to expire first, WAITING at most
    waiting_count: int = 0  # of all that wait
    count: int = 0  # of all requests of the run
    next_cursor: str | None = None  # of older requests

    @property
    def failure(self) -> Failure | None:
        return failure_of(self.run)

    @property
    def nobody(self) -> list[Stranded]:
        """Return what waits and cannot be decided as things stand."""
        return list(self.stranded.values())

    @property
    def waiting_besides(self) -> int:
        return self.waiting_count - len(self.waiting_for)


def story_of(run: Run, cursor: str = "") -> RunStory:
    """Return a page of a run's requests, newest first, with their effects; and what it waits for.

    Five queries, and five more while something waits.
    """
    shown, next_cursor = for_runs.asked_by_run(run.pk, most=ASKED, cursor=cursor)
    counted = for_runs.counted_of_run(run.pk)
    waiting_count = counted.get(Approval.Status.PENDING, 0)
    waiting = for_runs.pending_of_run(run.pk, most=WAITING) if waiting_count else []
    effects = list(run.effects.filter(pk__in=[approval.pk for approval in shown]).defer("result", "arguments"))
    return RunStory(
        run=run,
        approvals=shown,
        effects=effects,
        stranded=stranded(waiting),
        waiting_for=waiting,
        waiting_count=waiting_count,
        count=sum(counted.values()),
        next_cursor=next_cursor,
    )


@dataclass(frozen=True)
class AnswerProgress:
    """How far a closed approval's answer has got on its way to who asked.

    `on_its_way`: not taken yet, tried again by itself; `delivered`: the run or the program has it; `undelivered`: given
    up, until a person has it tried again; `held`: an admin has not confirmed that it may go there; `ended`: the run
    ended before it heard, which nothing can help.
    """

    state: Literal["on_its_way", "kept", "delivered", "undelivered", "held", "ended"]
    cause: str  # why the newest attempt failed or none is made, in words that may be somebody else's; "" for neither
    attempts: int  # of those that are counted: 0 once a run has it
    since: datetime


def delivery_of(approval_ids: list[str]) -> dict[str, AnswerProgress]:
    """Return how far each answer has got; approvals without one are left out. Six queries, however many are asked."""
    closed = Approval.objects.filter(pk__in=approval_ids, closed_at__isnull=False).prefetch_related("receipt")
    rows = list(closed.defer("canonical", "arguments_schema", "agent_words"))
    answers = AnswerDelivery.objects.in_bulk([row.pk for row in rows])
    runs = dict(Run.objects.filter(pk__in={row.run_id for row in rows}).values_list("pk", "status"))
    waiting = OutboxEntry.objects.filter(delivered_at=None, subject__in={row.run_id for row in rows}).order_by("id")
    entries = {str(entry.payload.get("approval_id")): entry for entry in waiting}
    found: dict[str, AnswerProgress] = {}
    held = [row for row in rows if row.pk in answers and answers[row.pk].state == AnswerDelivery.State.HELD]
    held = [row for row in held if signal_rules.needs_confirmation(row.agent)]
    pairs = signal_pairs.pairs_of(held) if held else {}
    for row in rows:
        if row.pk in pairs:
            found[row.pk] = _held(answers[row.pk], pairs[row.pk])
        elif row.source == Approval.Source.PROGRAM:
            found[row.pk] = _to_program(row, answers.get(row.pk), entries.get(row.pk))
        elif row.status == Approval.Status.DECIDED:
            found[row.pk] = _to_run(row, runs.get(row.run_id, ""), entries.get(row.pk))
    return found


def _to_program(row: Approval, answer: AnswerDelivery | None, entry: OutboxEntry | None) -> AnswerProgress:
    assert row.closed_at is not None
    if row.is_fetched and (answer is None or answer.state != AnswerDelivery.State.DELIVERED):
        return AnswerProgress("kept", "", 0, row.closed_at)
    if answer is None or (answer.state == AnswerDelivery.State.TRYING and not answer.attempts):
        cause, attempts = (entry.last_error, entry.attempts) if entry else ("", 0)
        return AnswerProgress("on_its_way", cause, attempts, row.closed_at)
    if answer.state == AnswerDelivery.State.DELIVERED:
        return AnswerProgress("delivered", "", answer.attempts, answer.delivered_at or answer.began_at)
    given_up = answer.state != AnswerDelivery.State.TRYING  # held too, where the settings answer for it since
    return AnswerProgress(
        "undelivered" if given_up else "on_its_way", answer.last_error, answer.attempts, answer.began_at
    )


def _held(answer: AnswerDelivery, pair: SignalPair) -> AnswerProgress:
    return AnswerProgress("held", pair.sentence, answer.attempts, answer.began_at)


def _to_run(row: Approval, status: str, entry: OutboxEntry | None) -> AnswerProgress:
    assert row.closed_at is not None
    heard = next((step for step in row.receipt.all() if step.step == ReceiptStep.Step.RESUMED), None)
    if heard is not None:
        return AnswerProgress("delivered", "", 0, heard.at)
    if status not in Run.OPEN:
        return AnswerProgress("ended", f"the run is {status}" if status else "there is no run", 0, row.closed_at)
    return AnswerProgress(
        "on_its_way", entry.last_error if entry else "", entry.attempts if entry else 0, row.closed_at
    )
