"""What can go wrong in the agent plane.

OrchestrationError
  InvalidInput      the agent's input does not fit its schema
  AgentsLoading     agents are still being imported; trying again helps
  RunKeyReused      the same idempotency key with another body
  BatchKeyReused    the same key of a batch with other inputs
  NoSuchBatch       there is no such batch, or it may not be seen
  NoSuchRun         there is no such run, or it may not be seen
  NoSuchCheckpoint
  TemporalAway      the Temporal server cannot be reached; trying again can help
    NamespaceGone   it is there, and has no namespace of the configured name
  TemporalRefused   the server answered, and said no to this one call
  MailNotTaken      the mail system did not take a mail; trying again can help
  WorkflowGone      there is no such workflow, or it has ended
  ActionRefused     the run is not in a state for what an operator asks; says why
  NoSuchBulk        there is no such action about many runs
  NoSuchRunView     the person has no such view of the list of runs
  InvalidOptions    an action's options cannot be taken
  NoSuchMessage     nobody has sent such a message to a workflow
  NotAnswered       no worker has answered a query or an update in time
  FailedByOperator  an operator had the turn failed for good
  RunClosed         the run has ended; nothing more can be done for it
  Fenced            a newer attempt of the turn has begun, or it is over; this one may start nothing more
  AgentCodeChanged  the code has no place for what the run holds
  CheckpointsGone   what the run had reached is not kept any more, or cannot be read
  UnknownDialect    the graph asked for something that cannot be shown or answered
  RunExpired        nobody decided in time, and the graph takes no word for that
  NotAllowedToGoOn  the graph takes no true word for how its request ended
  CannotAskAgain    the graph cannot be made to ask again
  AnswerNotTaken    the graph's own check refused an answer; it is asked again
  NotCarriedOut     the graph ended without doing what was approved
  EffectLeftOpen    the graph ended, and nobody has seen the end of what it had begun
  TooManySteps      the graph took more steps in one turn than its agent may
  BudgetUsedUp      the run's models have used as many tokens as the run may
  DayBudgetUsedUp   the models of the agent's runs have used as many tokens today as they may
  AttemptLost       an attempt ended without a word: its worker died, or its time was over
  GaveUp            a failure came as often, or lasted as long, as the agent allows
  AgentServerAway   an agent server did not answer, or refused; trying again can help
    ThreadBusy      a run of the thread is under way; trying again helps once it has ended
  ThreadGone        there is no such thread on the agent server any more
  WebhookFailed     a webhook was not taken, or its address may not be called; trying again can help
  SignalRefused     a program's answer may not go to this workflow; trying again helps once it is allowed
  SignalHeld        a program's answer waits for an admin's yes, or got a no; the yes has it sent
  PairRefused       somebody may not settle which signals are sent
  SecretLost        Django's key has changed, so an account's webhook secret cannot be made any more
  SecretsAsTheyAre  an account's webhook secrets stay as they are; says why
  NoSuchService     there is no such service account, or no such webhook secret
  NotToReport       nothing was approved of which a program could say what came of it
  OutcomeReported   the program has said something else of it before
  NothingToDeliver  the answer has arrived, or there is none yet
  NotAsDecided      what is kept of a program's request is not what was decided; trying again helps once it is put back
  EffectUnclear     an idempotent tool gave no clear answer; asking again with the same key can help
"""

from __future__ import annotations

from typing import Any

from console.refusals import Invalid, NotFound, Refused


class OrchestrationError(Exception):
    """Something in the agent plane cannot be done. `permanent`: trying the same again cannot help."""

    permanent = True


class InvalidInput(OrchestrationError, Invalid):
    """The input does not fit the agent's schema; `errors`: [{"path", "message"}]."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(f"{errors[0]['path'] or 'input'}: {errors[0]['message']}")
        self.errors = errors


class AgentsLoading(OrchestrationError, Refused):
    """The agent may be one of those that are still being imported. Nothing was begun; send it again in some seconds."""

    http_status = 503
    title = "Not ready yet"
    permanent = False

    def facts(self) -> dict[str, Any]:
        return {"retry_after_seconds": 5}


class RunKeyReused(OrchestrationError, Refused):
    """This idempotency key was used for another input. Use a new key."""

    title = "Key used before"


class BatchKeyReused(OrchestrationError, Refused):
    """This key was used for a batch of other inputs. Use a new key."""

    title = "Key used before"


class NoSuchBatch(OrchestrationError, NotFound):
    """There is no such batch, or it may not be seen."""

    what = "batch"


class NoSuchRun(OrchestrationError, NotFound):
    """There is no such run, or it may not be seen."""

    what = "run"


class NoSuchCheckpoint(OrchestrationError, NotFound):
    """There is no such checkpoint in this run."""

    what = "checkpoint"


class TemporalAway(OrchestrationError):
    """The Temporal server cannot be reached."""

    permanent = False


class NamespaceGone(TemporalAway):
    """Temporal has no namespace of this name, so it says nothing about any workflow: no run is gone for it."""


class TemporalRefused(OrchestrationError):
    """The Temporal server is there and refuses this call; others may succeed."""

    permanent = False
    is_data_loss = False  # it cannot read what it kept


class MailNotTaken(OrchestrationError):
    """The mail system did not take a mail."""

    permanent = False


class WorkflowGone(OrchestrationError):
    """There is no such workflow, or it has ended."""


class ActionRefused(OrchestrationError, Refused):
    """The run is not in a state for this: it is closed, something else is under way, or it has changed since."""

    title = "Not in this state"


class NoSuchBulk(OrchestrationError, NotFound):
    """There is no such action about many runs."""

    what = "action about many runs"


class NoSuchRunView(OrchestrationError, NotFound):
    """You have no such view of the list of runs."""

    what = "view"


class InvalidOptions(OrchestrationError, Invalid):
    """An action's options cannot be taken; `errors`: [{"path", "message"}]."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{errors[0]['path'] or 'options'}: {errors[0]['message']}")
        self.errors = errors


class NoSuchMessage(OrchestrationError, NotFound):
    """Nobody has sent such a message to a workflow."""

    what = "message to a workflow"


class NotAnswered(OrchestrationError):
    """No worker has answered in time."""

    permanent = False


class FailedByOperator(OrchestrationError):
    """An operator had the turn failed for good; the message says who and why."""


class RunClosed(OrchestrationError):
    """The run has ended; `status` says how."""

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"The run {run_id} is closed: {status}.")
        self.status = status


class Fenced(OrchestrationError):
    """A newer attempt of this turn has begun, or it is over."""

    permanent = False


class AgentCodeChanged(OrchestrationError):
    """The agent's code changed while the run was open, and the run cannot go on in it."""


class CheckpointsGone(OrchestrationError):
    """What the run had reached is not kept any more, so it cannot go on, and must not begin again."""


class AgentStopped(OrchestrationError):
    """The graph stopped before its end without asking anybody, so nobody could let it go on."""


class UnknownDialect(OrchestrationError):
    """The graph asked for something that cannot be shown exactly, or not answered, so nobody could be asked."""


class RunExpired(OrchestrationError):
    """Nobody decided in time, and the graph takes no word for that."""


class NotAllowedToGoOn(OrchestrationError):
    """The graph can be told nothing that is true of how its request ended, such as a no where it only takes a yes."""


class CannotAskAgain(OrchestrationError):
    """The graph cannot be made to ask again what it had asked."""


class AnswerNotTaken(OrchestrationError):
    """The graph's own check refused an answer, which no schema had told; the next attempt has it ask again."""

    permanent = False


class NotCarriedOut(OrchestrationError):
    """The graph came to its end without doing what was approved."""


class EffectLeftOpen(OrchestrationError):
    """The graph came to its end, and nobody has seen the end of an effect that it had begun.

    `permanent`: the tool's time is over. Before that the end may still come, and the turn is tried again.
    """

    def __init__(self, sentence: str, *, permanent: bool) -> None:
        super().__init__(sentence)
        self.permanent = permanent


class TooManySteps(OrchestrationError):
    """The graph took more steps in one turn than its agent may."""


class BudgetUsedUp(OrchestrationError):
    """The run's models have used as many tokens as the run may."""


class DayBudgetUsedUp(OrchestrationError):
    """The models of the agent's runs have used as many tokens today as they may; the message says how many."""


class AttemptLost(OrchestrationError):
    """The attempt ended without a word: its worker died, or its time was over."""

    permanent = False


class GaveUp(OrchestrationError):
    """The same failure came as often, or lasted as long, as the agent allows; `kind` is the failure's."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class WebhookFailed(OrchestrationError):
    """The webhook was not taken."""

    permanent = False


class SignalRefused(OrchestrationError):
    """The program may not have this workflow signalled; the message says why."""

    permanent = False


class SignalHeld(OrchestrationError):
    """An admin has not confirmed that the program may have this signal sent; the message says so."""


class PairRefused(OrchestrationError, NotFound):
    """Who asks may not settle which signals are sent, or there is nothing of that id; the message says so."""

    what = "pair of account and signal"


class AgentServerAway(OrchestrationError):
    """An agent server did not answer in time, or its answer was none."""

    permanent = False


class AgentServerRefused(AgentServerAway):
    """An agent server refused a request for what it is or who sent it, so it has done nothing."""


class ThreadBusy(AgentServerAway):
    """A run of the thread is under way on its agent server, so it takes no answer now."""


class ThreadGone(OrchestrationError):
    """There is no such thread on its agent server any more."""


class SecretLost(OrchestrationError):
    """Django's key is another one than when the account's webhook secret was made: an admin makes a new one."""

    permanent = False


class SecretsAsTheyAre(OrchestrationError, Refused):
    """An account has one valid webhook secret at least, and two at most; the message says what to do first."""


class NoSuchService(OrchestrationError, NotFound):
    """There is no active service account of that id or name, or it has no such webhook secret."""

    what = "service account or secret"


class NotToReport(OrchestrationError, Refused):
    """Nothing was approved, so there is nothing of which a program could say what came of it."""

    title = "Nothing was approved"

    def __init__(self, state: str) -> None:
        told = {"pending": "Nobody has decided this yet", "expired": "This expired without a decision"}
        told |= {"withdrawn": "This was withdrawn", "reject": "This was rejected"}
        told |= {"respond": "This was answered in the tool's place"}
        super().__init__(f"{told.get(state, state)}, so nothing may have been done.")
        self.state = state


class OutcomeReported(OrchestrationError, Refused):
    """Another outcome was reported before, and the first word stands."""

    title = "Another outcome was reported before"

    def __init__(self, status: str) -> None:
        super().__init__(f"It was reported as {status} before, and the first word stands.")
        self.status = status

    def facts(self) -> dict[str, Any]:
        return {"reported": self.status}


class NothingToDeliver(OrchestrationError):
    """The answer has arrived where it was asked for, or there is none yet."""


class NotAsDecided(OrchestrationError, Refused):
    """What is kept of this request is not what was decided, so the program is told nothing. Tell an admin."""

    title = "Not as decided"
    permanent = False


class EffectUnclear(OrchestrationError):
    """The tool gave no clear answer; it will be asked again with the same key."""

    permanent = False
