"""What crosses the boundaries of the agent plane. JSON only, versioned; new fields last, with defaults.

The run id is the Temporal workflow id and the LangGraph thread id. Workflow code imports this module, so it
holds plain dataclasses and nothing else: no Django, no database, no engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from console.backoff import Backoff
from console.contracts import Boundary, Contracts, Step

WORKFLOW = "AgentRun"
RUN_TURN = "run_turn"  # activity names; tests pair each with its function
CLIMB = "climb"
CLOSE_RUN = "close_run"
DECIDED = "decided"  # the signals
RESUMED = "resumed"  # of a run that was paused

WATCH = "Watch"  # the workflow beside a program's approval, and its activities
DELIVER = "deliver_answer"
GIVE_UP = "give_up_answer"

BATCH = "Batch"  # the workflow that feeds a batch, its activity, and the signal that wakes it
FEED = "feed_batch"
LOOK = "look"

TURNS = Backoff(1, 30)  # between two attempts of a turn


@dataclass(frozen=True)
class StartRun:
    """The workflow's input. `carried` is set only by continue-as-new."""

    run_id: str
    agent: str
    turn_seconds: int = 600  # start-to-close of one turn
    carried: Carried | None = None
    heartbeat_seconds: int = 30  # a turn that is silent for so long is given to another worker
    era: int = 0  # of the run, where the workflow was started for a later one; see orchestration.fences


@dataclass
class Carried:
    """What a workflow knows between two looks at the rows; a run takes it as it is into a new history."""

    turn: int = 0
    waiting_for: list[str] = field(default_factory=list)  # approvals
    seen_decisions: list[str] = field(default_factory=list)
    next_step_at: str | None = None  # of their ladders, RFC 3339
    decided: list[str] = field(default_factory=list)  # approvals that a signal has named since the newest look
    is_resumed: bool = False  # a signal has said so since the newest turn was scheduled


@dataclass(frozen=True)
class Turn:
    """One call of the graph. `approval_ids`: what the run waits for; empty for the start."""

    run_id: str
    agent: str
    turn: int
    approval_ids: list[str] = field(default_factory=list)
    era: int = 0  # as in StartRun


@dataclass(frozen=True)
class TurnResult:
    """How a turn ended.

    `finished`: `result` was stored with the run. `needs_approval` and `still_waiting`: `waiting_for` holds the
    approvals, `next_step_at` the next ladder step (RFC 3339). `failed`: `kind` and `message` say why; trying the
    same again cannot help. `paused`: nothing was begun, for an operator has paused the run; the same is asked again
    once it is resumed.
    """

    outcome: Literal["finished", "needs_approval", "still_waiting", "failed", "paused"]
    waiting_for: list[str] = field(default_factory=list)
    next_step_at: str | None = None
    checkpoint_id: str = ""
    dataset_versions: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    message: str = ""


@dataclass(frozen=True)
class Climb:
    """Take the ladder steps that are due."""

    run_id: str
    approval_ids: list[str]


@dataclass(frozen=True)
class Climbed:
    """`closed`: at least one approval is no longer pending, so a turn can settle it."""

    closed: bool
    next_step_at: str | None = None


@dataclass(frozen=True)
class CloseRun:
    """Close the run's row and withdraw what is still pending; not when the run was set back since, into a later era."""

    run_id: str
    status: Literal["failed", "cancelled"]
    kind: str
    message: str
    era: int = 0  # as in StartRun


@dataclass(frozen=True)
class StartWatch:
    """The input of the workflow beside a program's approval."""

    approval_id: str
    tried_for_seconds: int = 24 * 3600  # how long an answer is sent again until it is taken


@dataclass(frozen=True)
class DeliverAnswer:
    """Send the answer to where the program wants it."""

    approval_id: str


@dataclass(frozen=True)
class GiveUpAnswer:
    """Show the answer as undelivered: it was tried for as long as was promised."""

    approval_id: str


@dataclass(frozen=True)
class FeedBatch:
    """The input of the workflow of a batch, and of its activity: one step of feeding it."""

    batch_id: str


@dataclass(frozen=True)
class Fed:
    """What a step of feeding came to. `is_over`: every item has ended. `look_after`: seconds, if nobody wakes it."""

    is_over: bool
    made: int = 0  # runs
    look_after: int = 5


@dataclass(frozen=True)
class ProgramSignal:
    """The answer to a program, on its way to the workflow that it named."""

    workflow_id: str
    signal: str
    body: dict[str, Any]
    request_id: str  # the server drops a second signal with the same one
    run_id: str = ""  # "" is the newest
    namespace: str = ""  # "" is ours


@dataclass(frozen=True)
class HandWritten:
    """An operator's signal, query or update on its way to a workflow."""

    kind: Literal["signal", "query", "update"]
    namespace: str
    workflow_id: str
    name: str
    arguments: list[Any]
    message_id: str  # the server drops a second signal with it, and answers a second update as the first


BOUNDARIES = (
    Boundary(
        name="console -> durable: start",
        version=1,
        takes="StartRun(run_id, agent); the input stays in the Run row",
        gives="a running workflow; a repetition finds the same one",
        key="workflow id = run id, made from agent + idempotency key; duplicates rejected, also after the end",
        timeouts="start call 10 s; retried by the relay with backoff until acknowledged",
        checkpoint="Run row (starting) and outbox entry, one transaction",
        on_resume="the relay finds the entry again and starts the same workflow id",
        must_not="console: call Temporal in a request. durable: start a second run for one id",
    ),
    Boundary(
        name="durable -> agent: turn",
        version=1,
        takes="Turn(run_id, turn, approval_ids); each attempt takes a newer fence, in whichever Temporal run",
        gives="finished | needs_approval(ids, next ladder step) | still_waiting | failed(kind, message)",
        key="run id + turn; the graph is entered again by run id, never started twice",
        timeouts="start-to-close 10 min, heartbeat 30 s, retry with backoff 1 s to 30 s",
        checkpoint="LangGraph's tables in schema agent, written before each next step (durability sync)",
        on_resume="the last checkpoint, where the code has a place for it; no finished node, no landed answer twice",
        must_not="agent: wait for a person in memory, touch the world except through the ledger",
    ),
    Boundary(
        name="console -> durable: decided",
        version=1,
        takes="signal decided {approval_id, decision_id}: ids only",
        gives="a turn that reads the rows; a forged or repeated signal changes nothing",
        key="decision id, de-duplicated in the workflow",
        timeouts="signal call 10 s; retried by the relay with backoff until acknowledged",
        checkpoint="Decision row and outbox entry, one transaction",
        on_resume="delivered again; the workflow knows the decision id",
        must_not="console: put a verdict into a signal. durable: believe a signal without the row",
    ),
    Boundary(
        name="console -> durable: cancel, terminate",
        version=1,
        takes="a run id; who asked and why stand in the Run row and go along as Temporal's reason",
        gives="cancel: the workflow closes the row. terminate: the row is closed before it is asked",
        key="run id; a workflow that is gone is looked at, and its row is closed",
        timeouts="10 s per call; retried by the relay with backoff until acknowledged",
        checkpoint="Run row (ending) and outbox entry, one transaction",
        on_resume="delivered again; Temporal takes a second one for the first",
        must_not="console: call an effect undone that has begun. durable: begin an effect of a closed run",
    ),
    Boundary(
        name="console -> workflow: by hand",
        version=1,
        takes="a signal, query or update of an operator's: kind, namespace, workflow id, name, arguments, message id",
        gives="sent | answered(JSON, cut) | refused(why) | unanswered",
        key="message id: Temporal's request id of a signal, update id of an update",
        timeouts="signal 10 s, tried until taken; query 8 s, once; update 8 s, tried for 2 min",
        checkpoint="WorkflowMessage row and outbox entry, one transaction",
        on_resume="sent again; the server drops the second signal, and answers the second update as the first",
        must_not="console: send what carries an answer, write to workflows that no setting lists",
    ),
    Boundary(
        name="durable -> console: feed",
        version=1,
        takes="FeedBatch(batch_id); the rows stay in the BatchItem table",
        gives="Fed(is_over, made, look_after); the runs it has made are started as any other",
        key="run id = batch id + number, + attempt from the second on",
        timeouts="15 s per step, retry with backoff 1 s to 30 s; looks again after 5 s to 5 min, or when it is woken",
        checkpoint="Run rows, items and outbox entries, one transaction per step",
        on_resume="what was made is there; the next step makes what is left",
        must_not="durable: wait for a run of the batch. console: start more than there is room for",
    ),
    Boundary(
        name="durable -> approvals: climb",
        version=1,
        takes="Climb(run_id, approval_ids)",
        gives="Climbed(closed, next step's time)",
        key="approval id + number of steps taken",
        timeouts="10 s per attempt; the deadline is the policy's, by the database's clock (default 72 h)",
        checkpoint="steps_climbed on the Approval row",
        on_resume="steps taken before are not taken again",
        must_not="durable: decide from a timer. approvals: know an engine",
    ),
    Boundary(
        name="program -> console: request",
        version=1,
        takes="POST approvals: a tool, its exact arguments, where the answer goes; a service account's token",
        gives="an approval and its watch; a repetition finds the same ones",
        key="account + external_id; another body under the same id is refused",
        timeouts="the policy's deadline, or an earlier one that the program names",
        checkpoint="Approval row and outbox entry, one transaction",
        on_resume="the relay finds the entry again and starts the same workflow id",
        must_not="program: widen whom the policy names. console: believe a program's words about its arguments",
    ),
    Boundary(
        name="durable -> program: answer",
        version=1,
        takes="signal under the name asked for, or Standard Webhook: ids, status, verdict, arguments that may be used",
        gives="taken | failed, tried again",
        key="decision id; the receiver de-duplicates, for an answer may come twice",
        timeouts="10 s per attempt, backoff 1 s to 5 min, 24 h in all; then shown as undelivered, with a button",
        checkpoint="AnswerDelivery row: attempts, newest error, when it was taken",
        on_resume="the watch looks at the row; what was taken is not sent again",
        must_not="console: call private addresses, follow redirects. program: trust a body without its signature",
    ),
    Boundary(
        name="agent -> world: perform",
        version=1,
        takes="perform(approval_id, digest)",
        gives="done(result) | failed(reason) | refused(reason) | unknown",
        key="approval id; handed to tools that take an idempotency key",
        timeouts="per tool (default 30 s)",
        checkpoint="Effect row, written before the tool is called",
        on_resume="done: the stored result. executing: the tool again with its key, or unknown and a person is asked",
        must_not="agent: call an effect's tool itself. ledger: start an effect under an old fence",
    ),
)

STEPS = (
    Step("Take a click or an API call, check who may", "console"),
    Step("Record a decision, its audit entry and its outbox entry", "console"),
    Step("Start a run, deliver a decision", "durable"),
    Step("Wait for a person, remind, escalate, expire", "durable"),
    Step("Watch over a program's approval, send it the answer", "durable"),
    Step("Feed a batch while there is room", "durable"),
    Step("Retry a turn, move it to another worker", "durable"),
    Step("Read the order, find the policy passages, plan", "agent"),
    Step("Propose, freeze, wait at the gate, act", "agent"),
    Step("Perform an approved effect once", "durable"),
)

CONTRACTS = Contracts(boundaries=BOUNDARIES, steps=STEPS)
