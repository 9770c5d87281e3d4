"""What can go wrong when the policy is changed.

PolicyError
  NoSuchVersion
  InvalidPolicy         rules, calendars or note cannot be taken; says where
  StalePolicy           made from a version that is no longer active
  AnotherIsProposed     one proposal at a time
  AlreadySettled        confirmed or refused before; says by whom and when
  NotYours              not an admin, or the same person as the one who proposed it
"""

from __future__ import annotations

from datetime import datetime

from approvals.errors import ApprovalError
from console.refusals import Invalid, NotFound


class PolicyError(ApprovalError):
    """The policy cannot be changed so."""


class NoSuchVersion(PolicyError, NotFound):
    """There is no such version of the policy."""

    what = "version of the policy"


class InvalidPolicy(PolicyError, Invalid):
    """The policy cannot be taken; `errors`: [{"path": "rules.0.condition", "message"}]."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


class StalePolicy(PolicyError):
    """The change was made from a version that is no longer active."""

    def __init__(self, active: int) -> None:
        held = f"version {active}" if active else "the shipped policy"
        super().__init__(f"The policy was changed meanwhile: {held} is active now. Make your change from that one.")
        self.active = active


class AnotherIsProposed(PolicyError):
    """Another change waits to be confirmed."""

    def __init__(self, version: int, by: str) -> None:
        super().__init__(f"Version {version}, proposed by {by}, waits to be confirmed or refused; settle it first.")
        self.version = version


class AlreadySettled(PolicyError):
    """The proposal was confirmed or refused before."""

    def __init__(self, version: int, state: str, by: str, at: datetime | None) -> None:
        done = "refused" if state == "refused" else "confirmed"
        when = f" at {at:%H:%M:%S} UTC on {at:%d %B %Y}" if at else ""
        super().__init__(f"Version {version} was {done} by {by}{when}.")
        self.state, self.by, self.at = state, by, at


class NotYours(PolicyError):
    """Somebody else has to do this; the message says who."""

    http_status = 403
    title = "Not allowed"
