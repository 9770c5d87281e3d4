"""Runs and what they did to the world."""

from __future__ import annotations

from datetime import timedelta

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Q

from console.clock import DatabaseNow

LOOKED_AT_AFTER = timedelta(seconds=60)  # without any move; the trigger `run_moved` says so too

#: a new attempt says nothing about the cause yet: it may fail as the one before did
_MOVED = """
NEW.look_due_at = signalbox_now() + interval '60 seconds';
NEW.seen = NULL;
IF OLD.status IS DISTINCT FROM NEW.status THEN
    NEW.cause = ''; NEW.cause_group = ''; NEW.cause_rank = 0; NEW.cause_sentence = ''; NEW.cause_since = NULL;
END IF;
RETURN NEW;
"""


class Run(models.Model):
    """One execution of an agent. Its id is the Temporal workflow id and the LangGraph thread id."""

    class Status(models.TextChoices):
        STARTING = "starting"  # recorded; the relay has not started the workflow yet
        RUNNING = "running"
        WAITING = "waiting"  # for people
        PAUSED = "paused"
        FINISHED = "finished"
        FAILED = "failed"
        CANCELLED = "cancelled"

    OPEN = (Status.STARTING, Status.RUNNING, Status.WAITING, Status.PAUSED)

    id = models.CharField(primary_key=True, max_length=200)
    agent = models.CharField(max_length=100)
    input = models.JSONField()
    input_digest = models.CharField(max_length=64)  # hex SHA-256 of the canonical input
    idempotency_key = models.CharField(max_length=200, null=True, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.STARTING)
    result = models.JSONField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)  # {"kind", "message"}, where known with "node" and "trace"
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    temporal_run_id = models.CharField(max_length=100, blank=True)
    #: those whose turns have begun: [{"id", "era", "turn", "attempt"}], the newest attempt of each, the newest run last
    temporal_runs = models.JSONField(default=list)
    turn = models.PositiveIntegerField(default=0)  # the newest turn that has begun
    era = models.PositiveIntegerField(default=0, db_default=0)  # raised by what sets a run back; see fences
    fence = models.BigIntegerField(default=0)  # goes up with each attempt; an older attempt may start no effect
    checkpoint_id = models.CharField(max_length=100, blank=True)
    dataset_versions = models.JSONField(default=list)  # [{"dataset", "version"}]
    #: how the graph stood at its newest pause: {"code": its shape, "asked_in": {interrupt id: node}}
    pause = models.JSONField(null=True, blank=True)
    code_changes = models.JSONField(default=list)  # [{"turn", "at", "changed"}] that the run went on after
    #: of the turn under way, the newest failed attempt: {"turn", "attempt", "at", "kind", "message", "since", "times",
    #: "next_try_at", "node", "trace"}; `since` and `times` are of the same kind of failure
    failure = models.JSONField(null=True, blank=True)
    failing_since = models.DateTimeField(null=True, blank=True)  # the turn under way, whatever the kinds
    stuck_at = models.DateTimeField(null=True, blank=True)  # when it was found to fail for too long
    usage = models.JSONField(default=dict)  # {"model", "input_tokens", "output_tokens"}, with prices "cost_micros"
    ending = models.JSONField(null=True, blank=True)  # {"action", "by", "reason", "at"}: what an operator has asked for
    paused = models.JSONField(null=True, blank=True)  # {"by", "reason", "at"}: no turn begins while it is there
    #: where the first turn of the era begins: {"checkpoint_id", "values": what is changed in its state, "placed": the
    #: checkpoint that was made of it, "" before, "ahead": [tokens in, out] that its state knows of besides `usage`}
    restart = models.JSONField(null=True, blank=True)
    #: {"steps_per_turn", "tokens_per_run", "tokens_per_day"} where an operator has raised it above the agent's
    limits = models.JSONField(default=dict)
    look_due_at = models.DateTimeField(db_default=DatabaseNow() + LOOKED_AT_AFTER)  # see orchestration.reconciling
    #: what Temporal last said of it, as orchestration.diagnosis.look writes it; gone as soon as the run moves
    seen = models.JSONField(null=True, blank=True)
    # Why it needs somebody, as the relay found it last; all empty while it does not. See orchestration.diagnosis.
    cause = models.CharField(max_length=40, blank=True, default="", db_default="")
    cause_group = models.CharField(max_length=200, blank=True, default="", db_default="")  # of those with one cure
    cause_rank = models.PositiveSmallIntegerField(default=0, db_default=0)  # the lower the worse
    cause_sentence = models.TextField(blank=True, default="", db_default="")
    cause_since = models.DateTimeField(null=True, blank=True)
    looked_at = models.DateTimeField(null=True, blank=True)  # when it was last examined for a cause
    # What is let go of once it is over, see orchestration.retention; set back when the run is opened again.
    swept_at = models.DateTimeField(null=True, blank=True)  # what its nodes wrote behind the head is gone
    thread_deleted_at = models.DateTimeField(null=True, blank=True)  # so are all its checkpoints
    parent = models.ForeignKey(  # the run that it was forked from
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    batch = models.CharField(max_length=40, null=True, blank=True)  # the id of what started it among others
    search_words = models.GeneratedField(  # of the id, the agent, and the first 16,000 letters of the input's values
        expression=models.Func("id", "agent", "input", function="signalbox_run_words"),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    created_at = models.DateTimeField(db_default=DatabaseNow())
    started_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("agent", "idempotency_key"),
                condition=Q(idempotency_key__isnull=False),
                name="one_run_per_key",
            ),
        )
        indexes = (
            models.Index(
                fields=(
                    "-created_at",
                    "-id",
                ),
                name="run_newest",
            ),
            models.Index(
                fields=(
                    "status",
                    "-created_at",
                    "-id",
                ),
                name="run_by_status",
            ),
            models.Index(fields=("agent", "-created_at", "-id"), name="run_by_agent"),
            # a short list of what is not sorted in yet: a run moves often
            GinIndex(fields=("search_words",), gin_pending_list_limit=256, name="run_words"),
            models.Index(  # see console.in_flight
                fields=("requested_by",),
                condition=Q(status__in=("starting", "running", "waiting", "paused")),
                name="run_in_flight",
            ),
            models.Index(fields=("batch",), condition=Q(batch__isnull=False), name="run_of_batch"),
            models.Index(fields=("stuck_at",), condition=Q(stuck_at__isnull=False), name="run_stuck"),
            models.Index(
                fields=("look_due_at",),
                condition=Q(status__in=("starting", "running", "waiting", "paused")),
                name="run_to_look_at",
            ),
            models.Index(  # whose next step is nobody's but the engines'
                fields=("look_due_at",),
                condition=Q(status__in=("starting", "running")) | (Q(status="waiting") & ~Q(cause="")),
                name="run_suspect",
            ),
            models.Index(fields=("cause_rank", "cause_since", "id"), condition=~Q(cause=""), name="run_with_cause"),
            models.Index(
                fields=("closed_at", "id"),
                condition=Q(swept_at__isnull=True, closed_at__isnull=False),
                name="run_to_sweep",
            ),
            models.Index(fields=("failing_since",), condition=Q(failing_since__isnull=False), name="run_failing"),
        )
        triggers = (
            pgtrigger.Trigger(
                name="run_moved",  # whoever moves it: what moves need not be looked at
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition(
                    "OLD.status IS DISTINCT FROM NEW.status OR OLD.fence IS DISTINCT FROM NEW.fence"
                ),
                func=_MOVED,
            ),
            pgtrigger.Trigger(
                name="item_moves_along",  # in the transaction that moves the run, whoever it is
                when=pgtrigger.After,
                operation=pgtrigger.Update,
                condition=pgtrigger.Condition("NEW.batch IS NOT NULL AND OLD.status IS DISTINCT FROM NEW.status"),
                func="PERFORM signalbox_item_moves(NEW.batch, NEW.id, NEW.status); RETURN NULL;",
            ),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def temporal_run_ids(self) -> list[str]:
        """The chain of Temporal runs, oldest first: one more for each continuation and each reset."""
        known = [str(one["id"]) for one in self.temporal_runs]
        return known or ([self.temporal_run_id] if self.temporal_run_id else [])


class AgentMarks(models.Model):
    """What an agent's author hides, as a worker last loaded the agent; see `orchestration.state.kept_marks`."""

    agent = models.CharField(primary_key=True, max_length=100)
    names = ArrayField(models.TextField())
    at = models.DateTimeField()


class TurnProgress(models.Model):
    """Where a turn under way is, as its worker said last; see `orchestration.under_way`. Nothing rests on it."""

    run_id = models.CharField(primary_key=True, max_length=200)
    turn = models.PositiveIntegerField()
    fence = models.BigIntegerField()
    node = models.CharField(max_length=200, blank=True)  # "outer/inner"
    words = models.CharField(max_length=600, blank=True)  # the model's, the newest; untrusted
    at = models.DateTimeField(db_default=DatabaseNow())

    def __str__(self) -> str:
        return f"{self.run_id} {self.turn} {self.node}"


class ModelUse(models.Model):
    """What one turn of a run has used of one model on one day; failed attempts count too."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="model_uses")
    turn = models.PositiveIntegerField()
    model = models.CharField(max_length=200)
    agent = models.CharField(max_length=100)
    day = models.DateField()  # in UTC, by the database's clock
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_micros = models.BigIntegerField(null=True, blank=True)  # millionths of the currency, at the price of then

    class Meta:
        constraints = (models.UniqueConstraint(fields=("run", "turn", "model", "day"), name="model_use_once"),)
        indexes = (models.Index(fields=("day", "agent"), name="model_use_by_day"),)

    def __str__(self) -> str:
        return f"{self.run_id} {self.turn} {self.model}"


class Effect(models.Model):
    """One thing done to the outside world; at most one per approval. See `orchestration.effects`."""

    class Status(models.TextChoices):
        EXECUTING = "executing"
        DONE = "done"
        FAILED = "failed"  # the tool said that nothing happened
        UNKNOWN = "unknown"  # the attempt was cut off and the tool cannot be asked again; a person is

    approval_id = models.CharField(primary_key=True, max_length=40)
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="effects")
    tool = models.CharField(max_length=100)
    digest = models.CharField(max_length=64)  # of the bytes that were executed
    arguments = models.JSONField(null=True)  # as the tool got them; null in rows from before they were kept
    decision_id = models.CharField(max_length=40)
    is_idempotent = models.BooleanField()  # the tool takes the approval id as its key
    status = models.CharField(max_length=10, choices=Status, default=Status.EXECUTING)
    fence = models.BigIntegerField()
    attempts = models.PositiveIntegerField(default=1)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    started_at = models.DateTimeField(db_default=DatabaseNow())
    finished_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=40, blank=True, default="", db_default="")  # the tool's; "" is the approval's id
    is_set_back = models.BooleanField(default=False, db_default=False)  # the run was set back to before it
    taken_up_by = models.CharField(max_length=40, blank=True, default="", db_default="")  # approval asked since then

    class Meta:
        indexes = (
            models.Index(fields=("run", "digest"), condition=Q(is_set_back=True), name="effect_set_back"),
            models.Index(fields=("run",), condition=Q(status__in=("executing", "unknown")), name="effect_not_ended"),
        )

    def __str__(self) -> str:
        return f"{self.tool} for {self.approval_id}"


class RunAction(models.Model):
    """What an operator did about a run. The newest of a run is not done again by the same click."""

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="actions")
    action = models.CharField(max_length=40)
    by = models.CharField(max_length=150)  # the user name
    reason = models.TextField()
    options = models.JSONField(default=dict)
    key = models.CharField(max_length=64)  # hex SHA-256 of who asked for what
    new_run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=DatabaseNow())

    def __str__(self) -> str:
        return f"{self.action} {self.run_id} by {self.by}"


class Rethinking(models.Model):
    """Somebody's wish that a run reads its data anew and thinks again; see `orchestration.thinking_again`."""

    class State(models.TextChoices):
        WAITING = "waiting"  # for the refreshes
        DONE = "done"  # the run was set back to before it had read what is no longer current
        UNCHANGED = "unchanged"  # what it had read is confirmed: nothing to think again
        FAILED = "failed"  # a refresh did, or the run cannot be set back; `detail` says why
        DROPPED = "dropped"  # the world moved on first, e.g. the request was decided

    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="rethinkings")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    refreshes = models.JSONField(default=list)  # ids; all of them end first
    approvals = models.JSONField(default=list)  # ids of what was open: superseded, unless somebody decides first
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, db_default=State.WAITING)
    detail = models.CharField(max_length=500, blank=True, default="", db_default="")
    created_at = models.DateTimeField(db_default=DatabaseNow())
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            # Two clicks are one wish.
            models.UniqueConstraint("run", condition=Q(state="waiting"), name="one_rethinking_at_a_time"),
        )

    def __str__(self) -> str:
        return f"{self.run_id} {self.state}"


class BulkAction(models.Model):
    """One action about many runs, carried out by the relays; see `orchestration.actions.bulk`."""

    id = models.CharField(primary_key=True, max_length=40)
    action = models.CharField(max_length=40)
    options = models.JSONField(default=dict)
    reason = models.TextField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=64, unique=True)  # hex SHA-256 of who asked for what
    # hex SHA-256 of the ids or the filter that were sent; "" in rows of an earlier release
    asked_for = models.CharField(max_length=64, blank=True, default="", db_default="")
    total = models.PositiveIntegerField()
    created_at = models.DateTimeField(db_default=DatabaseNow())
    closed_at = models.DateTimeField(null=True, blank=True)
    stopped_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        indexes = (models.Index(fields=("created_at", "id"), condition=Q(closed_at=None), name="bulk_open"),)

    def __str__(self) -> str:
        return f"{self.action} {self.total} runs"


class BulkItem(models.Model):
    """What has become of one run in a bulk action."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DONE = "done"
        REFUSED = "refused"  # the run was not in a state for it; `detail` says why
        STOPPED = "stopped"  # before its turn came

    bulk = models.ForeignKey(BulkAction, on_delete=models.PROTECT, related_name="items")
    number = models.PositiveIntegerField()  # the order in which they are taken
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    detail = models.CharField(max_length=500, blank=True, default="")
    at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("bulk", "run"), name="bulk_item_once"),)
        indexes = (models.Index(fields=("bulk", "state", "number"), name="bulk_item_by_state"),)

    def __str__(self) -> str:
        return f"{self.bulk_id} {self.run_id} {self.state}"


class RunView(models.Model):
    """What the list of runs shows, under a person's own name for it. See `orchestration.run_views`."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)  # the address's query string
    made_at = models.DateTimeField(db_default=DatabaseNow())
    deleted_at = models.DateTimeField(null=True, blank=True)  # until then and for a while after it can be brought back

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("owner", "name"), condition=Q(deleted_at__isnull=True), name="each_run_view_name_once"
            ),
        )

    def __str__(self) -> str:
        return self.name


class AnswerDelivery(models.Model):
    """How far the answer to a program has got; made at the first attempt. See `orchestration.deliveries`."""

    class State(models.TextChoices):
        TRYING = "trying"
        DELIVERED = "delivered"
        UNDELIVERED = "undelivered"  # tried for as long as was promised; a person can have it tried again
        KEPT = "kept"  # sent nowhere: the program fetches it
        HELD = "held"  # not sent, for its pair of account and signal lacks an admin's yes; see `SignalPair`

    approval_id = models.CharField(primary_key=True, max_length=40)
    state = models.CharField(max_length=15, choices=State, default=State.TRYING)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    began_at = models.DateTimeField(db_default=DatabaseNow())  # moved on when a person has it tried again
    delivered_at = models.DateTimeField(null=True, blank=True)
    fetched_at = models.DateTimeField(null=True, blank=True)  # first; it may be sent besides

    def __str__(self) -> str:
        return f"{self.approval_id} {self.state}"


class ReportedOutcome(models.Model):
    """What a program says came of what was approved for it; the first word stands. See `orchestration.outcomes`."""

    class Status(models.TextChoices):
        DONE = "done"
        FAILED = "failed"
        UNKNOWN = "unknown"  # the program does not know either

    approval_id = models.CharField(primary_key=True, max_length=40)
    status = models.CharField(max_length=10, choices=Status)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    body_digest = models.CharField(max_length=64)  # of what was said, to tell a repetition from another word
    reported_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=DatabaseNow())

    def __str__(self) -> str:
        return f"{self.approval_id} {self.status}"


class SignalPair(models.Model):
    """A signal that an account has named first, and whether an admin lets Signalbox send it; see `signal_pairs`."""

    class State(models.TextChoices):
        WAITING = "waiting"
        CONFIRMED = "confirmed"
        REFUSED = "refused"  # also: confirmed once, and withdrawn

    account = models.CharField(max_length=150)  # the service's user name
    namespace = models.CharField(max_length=200)  # never ""
    signal = models.CharField(max_length=200)
    state = models.CharField(max_length=15, choices=State, default=State.WAITING)
    asked_at = models.DateTimeField(db_default=DatabaseNow())
    asked_by = models.CharField(max_length=40)  # the id of the request that named it first
    settled_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("account", "namespace", "signal"), name="signal_pair_once"),)

    @property
    def sentence(self) -> str:
        """What becomes of the answers that use it, "" where they are sent."""
        may = f"{self.account} may signal {self.signal} in {self.namespace}"
        if self.state == self.State.WAITING:
            return f"Its answer waits until an admin confirms that {may}: see Signals."
        if self.state == self.State.REFUSED:
            return f"Its answer is not sent: an admin refused that {may}. It is sent once an admin confirms it."
        return ""

    def __str__(self) -> str:
        return f"{self.account}: {self.signal} in {self.namespace}"


class WebhookSecret(models.Model):
    """One secret that answers to an account's webhooks are signed with; see `orchestration.webhook_secrets`."""

    account = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhook_secrets")
    salt = models.BinaryField()  # from which Django's key makes the secret; empty: the installation's own secret
    ending = models.CharField(max_length=10)  # the last characters of it, to tell it from others
    created_by = models.CharField(max_length=150)  # the user name, or the command's
    created_at = models.DateTimeField(db_default=DatabaseNow())
    form_key = models.CharField(max_length=40, unique=True)  # of the click that made it, so that two are one
    retired_by = models.CharField(max_length=150, blank=True, default="", db_default="")
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=("account",), condition=Q(retired_at=None), name="webhook_secret_valid"),)

    def __str__(self) -> str:
        return f"{self.account_id} …{self.ending}"

    @property
    def is_shared(self) -> bool:
        """Return whether it is the installation's, which each account has until it is given one of its own."""
        return not self.salt


class ThreadQuestion(models.Model):
    """What a thread on somebody else's agent server waits for: one interrupt; see `orchestration.agent_servers`."""

    class State(models.TextChoices):
        ASKED = "asked"  # people are asked; no answer has been taken
        SENT = "sent"  # the server has taken the answer
        TAKEN = "taken"  # and the thread went on with it
        GONE = "gone"  # the thread went on by itself, or is no more
        UNTOLD = "untold"  # its form of asking has no true word for how it ended; the thread waits on
        UNREAD = "unread"  # of a thread as a whole, `interrupt_id` empty: it could not be read, or asked nothing new

    server = models.CharField(max_length=50)
    thread_id = models.CharField(max_length=100)
    interrupt_id = models.CharField(max_length=100)
    asked_as = models.CharField(max_length=100)  # the approvals' interrupt id: another one when it was asked again
    run_id = models.CharField(max_length=200)  # the approvals'
    assistant_id = models.CharField(max_length=200)  # with which the thread goes on
    state = models.CharField(max_length=10, choices=State, default=State.ASKED)
    held_until = models.DateTimeField(null=True, blank=True)  # some relay is answering it
    #: when the server was given an answer last of which nobody has heard whether it took it
    given_at = models.DateTimeField(null=True, blank=True)
    server_run_id = models.CharField(max_length=100, blank=True, default="")  # that took the answer
    detail = models.CharField(max_length=500, blank=True, default="")
    asked_at = models.DateTimeField(db_default=DatabaseNow())
    checked_at = models.DateTimeField(db_default=DatabaseNow())  # when the thread was last read
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("server", "thread_id", "interrupt_id"), name="thread_question_once"),
        )
        indexes = (
            models.Index(fields=("run_id",), name="thread_question_by_run"),
            models.Index(
                fields=("server", "checked_at"), condition=Q(state__in=("asked", "sent")), name="thread_question_open"
            ),
        )

    def __str__(self) -> str:
        return f"{self.server} {self.thread_id} {self.interrupt_id} {self.state}"

    @property
    def is_in_doubt(self) -> bool:
        """Return whether the server was given the answer and nobody has heard what came of that."""
        return self.state == self.State.ASKED and self.given_at is not None


class AgentServerLook(models.Model):
    """When an agent server was last asked which of its threads wait, by whichever relay, and what it said."""

    name = models.CharField(primary_key=True, max_length=50)
    begun_at = models.DateTimeField(null=True, blank=True)
    asked_at = models.DateTimeField(null=True, blank=True)  # when it answered, or was found away
    fault = models.CharField(max_length=300, blank=True, default="")  # why it did not list its threads, "" when it did
    since = models.DateTimeField(null=True, blank=True)  # the fault
    threads = models.PositiveIntegerField(default=0)  # that waited there
    troubles = models.JSONField(default=list, db_default=[])  # sentences: what cannot be asked or told, the first ones
    troubled = models.PositiveIntegerField(default=0, db_default=0)  # how many such sentences there are
    goes_on_at = models.PositiveIntegerField(
        default=0, db_default=0
    )  # how many threads of the list the next look leaves out

    def __str__(self) -> str:
        return self.name


class WorkflowMessage(models.Model):
    """A signal, query or update that an operator sends to a workflow; see `orchestration.messages`."""

    class State(models.TextChoices):
        WAITING = "waiting"  # the relay has it still to send
        SENT = "sent"  # Temporal has taken the signal
        ANSWERED = "answered"
        REFUSED = "refused"  # by us, by Temporal or by the workflow; `detail` says why
        UNANSWERED = "unanswered"

    id = models.CharField(primary_key=True, max_length=40)
    kind = models.CharField(max_length=10)  # signal, query or update
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.PROTECT, related_name="messages")
    namespace = models.CharField(max_length=200)
    workflow_id = models.CharField(max_length=500)
    name = models.CharField(max_length=200)
    arguments = models.JSONField(default=list)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    key = models.CharField(max_length=64, unique=True)  # hex SHA-256 of who sends what to whom
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, db_default=State.WAITING)
    detail = models.TextField(blank=True, default="", db_default="")
    answer = models.TextField(blank=True, default="", db_default="")  # JSON, cut where it is long
    answer_size = models.PositiveIntegerField(default=0, db_default=0)  # characters before it was cut
    created_at = models.DateTimeField(db_default=DatabaseNow())
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (
            models.Index(fields=("namespace", "workflow_id", "-created_at"), name="message_of_workflow"),
            models.Index(fields=("run", "-created_at"), condition=Q(run__isnull=False), name="message_of_run"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name} to {self.workflow_id}"

    @property
    def is_cut(self) -> bool:
        return self.answer_size > len(self.answer)


class Watched(models.Model):
    """A program's approval that has a watch in Temporal, until its answer is delivered or given up."""

    approval_id = models.CharField(primary_key=True, max_length=40)
    workflow_id = models.CharField(max_length=200)
    look_due_at = models.DateTimeField(db_default=DatabaseNow())  # to compare it with Temporal

    class Meta:
        indexes = (models.Index(fields=("look_due_at",), name="watch_to_look_at"),)

    def __str__(self) -> str:
        return self.workflow_id


class Lookout(models.Model):
    """The one row that all relays share who compare runs with Temporal; see `orchestration.reconciling`."""

    looked_at = models.DateTimeField(null=True, blank=True)  # the newest second in which somebody asked
    home = models.CharField(max_length=100, blank=True)  # the id of the namespace in which our runs live
    stranger = models.CharField(max_length=100, blank=True)  # another one that answers in its place
    stranger_since = models.DateTimeField(null=True, blank=True)
    # What every run needs, as the relays found it last; see `orchestration.diagnosis.parts`.
    no_worker_since = models.DateTimeField(null=True, blank=True)
    temporal_away_since = models.DateTimeField(null=True, blank=True)
    temporal_fault = models.CharField(max_length=300, blank=True, default="", db_default="")

    def __str__(self) -> str:
        return self.home


class Finding(models.Model):
    """Something about the whole installation that people should know, on every page; see `orchestration.findings`."""

    key = models.CharField(primary_key=True, max_length=40)
    sentence = models.TextField()
    body = models.JSONField(default=dict)
    since = models.DateTimeField(db_default=DatabaseNow())

    def __str__(self) -> str:
        return self.sentence


class Trouble(models.Model):
    """One cause for which runs need somebody, for as long as some do; operators are told once of each."""

    group = models.CharField(primary_key=True, max_length=200)  # as in Run
    cause = models.CharField(max_length=40)
    since = models.DateTimeField(db_default=DatabaseNow())
    last_seen_at = models.DateTimeField(db_default=DatabaseNow())  # by a relay that found a run with it
    told_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.group


class Batch(models.Model):
    """One agent's runs for a table of inputs, fed while there is room; see `orchestration.batches`."""

    class Status(models.TextChoices):
        FEEDING = "feeding"
        PAUSED = "paused"  # nothing new is started; what has begun goes on
        FINISHED = "finished"  # every item has ended
        CANCELLED = "cancelled"  # nothing new is started for good

    id = models.CharField(primary_key=True, max_length=40)
    key = models.CharField(max_length=200, unique=True)
    digest = models.CharField(max_length=64)  # hex SHA-256 of the agent's name and the canonical inputs
    agent = models.CharField(max_length=100)
    status = models.CharField(max_length=10, choices=Status, default=Status.FEEDING)
    total = models.PositiveIntegerField()
    active = models.PositiveIntegerField()  # runs of it that work at the same time, at most
    open_approvals = models.PositiveIntegerField()  # of its requests that wait for people, at most
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    #: who has cancelled it and what becomes of what has begun: {"by", "reason", "at", "waiting": "leave" or "cancel"}
    ending = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=DatabaseNow())
    started_at = models.DateTimeField(null=True, blank=True)  # when the first run was made
    fed_at = models.DateTimeField(null=True, blank=True)  # when runs were made last
    closed_at = models.DateTimeField(null=True, blank=True)  # when the last item had ended

    class Meta:
        verbose_name_plural = "batches"
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="batch_newest"),
            models.Index(fields=("id",), condition=Q(closed_at=None), name="batch_open"),
        )

    def __str__(self) -> str:
        return self.id


class BatchItem(models.Model):
    """One row of a batch. It moves along with its run, in the same transaction: see the trigger of Run."""

    class State(models.TextChoices):
        NOT_STARTED = "not_started"
        RUNNING = "running"
        WAITING = "waiting"  # for people, or paused by an operator
        FINISHED = "finished"
        FAILED = "failed"
        CANCELLED = "cancelled"

    ENDED = (State.FINISHED, State.FAILED, State.CANCELLED)

    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="items")
    number = models.PositiveIntegerField()  # from 1, in the order of the table
    input = models.JSONField()
    state = models.CharField(max_length=11, choices=State, default=State.NOT_STARTED)
    attempt = models.PositiveSmallIntegerField(default=0)  # how often it was tried again
    run_id = models.CharField(max_length=200, null=True, blank=True)  # of the newest attempt
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("batch", "number"), name="batch_item_once"),
            models.UniqueConstraint(fields=("run_id",), condition=Q(run_id__isnull=False), name="batch_item_of_run"),
        )
        indexes = (
            models.Index(fields=("batch", "state", "number"), name="batch_item_by_state"),
            models.Index(fields=("batch", "ended_at"), condition=Q(ended_at__isnull=False), name="batch_item_ended"),
        )

    def __str__(self) -> str:
        return f"{self.batch_id} {self.number}"

    @property
    def next_run_id(self) -> str:
        """Return the id that its run will have: the same one however often it is made."""
        return f"{self.batch_id}-{self.number}" + (f"-{self.attempt + 1}" if self.attempt else "")


class BatchCount(models.Model):
    """How many items of a batch are in a state: the sum over all slots. A slot may be below zero.

    Several, so that runs that move at the same time do not wait for one row.
    """

    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="counts")
    state = models.CharField(max_length=11)
    slot = models.PositiveSmallIntegerField()
    count = models.IntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("batch", "state", "slot"), name="batch_count_once"),)

    def __str__(self) -> str:
        return f"{self.batch_id} {self.state} {self.count}"
