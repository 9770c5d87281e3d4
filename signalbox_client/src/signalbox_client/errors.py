"""What can go wrong between a program and Signalbox.

SignalboxError
  Refused           Signalbox says no to a call, and will again: a 4xx
  Unreachable       no answer, or none that helps, for as long as it was tried; nobody said no
  BadSignature      a webhook is not from Signalbox, or is too old
  StillPending      nobody has decided in the time that was given; asking again goes on waiting
  NotApproved       the request is closed and nothing may be done: it expired or was withdrawn
    Rejected        somebody has rejected it; the message is their reason
  OutcomeUnknown    it was begun under this key before, and how that ended nobody knows
  FailedBefore      it was tried under this key before, and failed; nothing happened
  NotReported       the guarded function has run, and that could not be told; `result` is what it returned
  NothingHappened   raise it in a guarded function when it failed and certainly changed nothing
"""

from __future__ import annotations

from typing import Any


class SignalboxError(Exception):
    """Something between this program and Signalbox did not work."""


class Refused(SignalboxError):
    """Signalbox refuses the call; the same call again is refused again. `problem` is its RFC 9457 body."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status, self.problem = status, problem
        super().__init__(f"{status} {problem.get('title', 'Refused')}: {problem.get('detail', '')}".rstrip(": "))

    @property
    def errors(self) -> list[dict[str, str]]:
        """The faults of the input: `[{"path", "message"}]`, empty when it was something else."""
        return list(self.problem.get("errors", []))


class Unreachable(SignalboxError):
    """Signalbox could not be reached, or did not get to an answer, for as long as it was tried."""


class BadSignature(SignalboxError):
    """The webhook does not come from Signalbox, or it is too old to be believed."""


class StillPending(SignalboxError):
    """Nobody has decided yet. `approval_id` names the request; the same key finds it again."""

    def __init__(self, approval_id: str) -> None:
        self.approval_id = approval_id
        super().__init__(f"Nobody has decided {approval_id} yet.")


class NotApproved(SignalboxError):
    """The request is closed without anybody's yes. `status`: expired, withdrawn or decided."""

    def __init__(self, approval_id: str, status: str, reason: str = "") -> None:
        self.approval_id, self.status, self.reason = approval_id, status, reason
        super().__init__(reason or f"The request {approval_id} is {status}: nobody approved it.")


class Rejected(NotApproved):
    """Somebody rejected it; the message is the reason they gave."""


class OutcomeUnknown(SignalboxError):
    """The same was begun before, and whether it happened is not known. Find out, then use another key."""


class FailedBefore(SignalboxError):
    """It was approved and tried under this key before, and failed. Ask under another key to try it again."""


class NotReported(SignalboxError):
    """The guarded function has run, and Signalbox could not be told: do not call it again.

    `result`: what it returned. `approval_id`: to report it later, with `Signalbox.report`.
    """

    def __init__(self, approval_id: str, result: Any, why: SignalboxError) -> None:
        self.approval_id, self.result = approval_id, result
        super().__init__(f"It was done, and that could not be reported for {approval_id}: {why}")


class NothingHappened(SignalboxError):
    """Raise it where a guarded function failed and has certainly changed nothing: it is reported as failed."""
