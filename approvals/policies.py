"""Who may decide what, and by when.

One policy for everything for now; its version is stored with each approval, so that rules kept in the database
can follow without changing what was decided under this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Policy:
    """The rule an approval is opened under."""

    version: str
    audience: tuple[str, ...]  # roles that may decide
    escalate_to: tuple[str, ...]  # roles added by the ladder's escalate step
    needed: int  # how many different people must agree
    verdicts: tuple[str, ...]
    remind_after: timedelta
    escalate_after: timedelta
    expire_after: timedelta


DEFAULT = Policy(
    version="default/1",
    audience=("reviewer",),
    escalate_to=("admin",),
    needed=1,
    verdicts=("approve", "reject"),
    remind_after=timedelta(hours=24),
    escalate_after=timedelta(hours=48),
    expire_after=timedelta(hours=72),
)


def policy_for(*, agent: str, tool: str, risk: str) -> Policy:
    """Return the policy for one proposal. An unknown tool gets the same: approval is always needed."""
    return DEFAULT
