"""The terms under which an approval stands: what a rule of the policy says about one proposal.

Pure data. The policy makes them (`approvals.policies.asking`), an approval keeps those it was opened under, and they
are compared whenever the policy is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Literal

Outcome = Literal["ask", "allow", "deny"]
FourEyes = Literal["requester", "editor", "owner"]


@dataclass(frozen=True)
class Facts:
    """What the policy may look at. `arguments` are untrusted data; conditions only compare them."""

    source: str  # agent or program
    agent: str
    tool: str
    kind: str  # action or outcome
    risk: str  # the tool's own: low, medium or high
    arguments: dict[str, Any]
    is_known: bool = True  # the tool is registered with the agent, or a program asks in its own name
    #: says whether something that the agent has read is not current now, or was not confirmed in time
    is_stale: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Terms:
    """What holds for one proposal. `ask`: people decide; `allow`: none is needed; `deny`: it is never done."""

    rule: str  # the name of the rule that matched, or why none could be used
    policy_version: str
    outcome: Outcome = "ask"
    groups: tuple[str, ...] = ("reviewer",)  # roles that may decide
    people: tuple[str, ...] = ()  # user names that may decide besides
    #: different people who must agree, or give the same answer; one person's rejection of an action is enough
    needed: int = 1
    four_eyes: tuple[FourEyes, ...] = ("requester",)  # who may not, as a person, whatever the account
    verdicts: tuple[str, ...] = ("approve", "edit", "reject", "respond")
    remind_after: int = 24 * 3600  # seconds, counted by the calendar
    escalate_after: int = 48 * 3600
    expire_after: int = 72 * 3600
    escalate_to: tuple[str, ...] = ("admin",)  # roles added by the ladder's escalate step
    calendar: str = ""  # the business calendar's name; "" counts every hour
    fresh_sign_in_minutes: int = 0  # 0: any session will do
    may_bulk: bool = True  # never for high risk, whatever is said here
    dwell_seconds: int = 0  # the least time between being shown it and approving, by whatever door
    needs_fresh_data: bool = False  # not approved while what the agent has read is not current or not confirmed
    may_change_fixed: bool = False  # a change may touch what who asked has fixed; see approvals.proposal.fixed
    risk: str = "high"  # the tool's, or what the rule makes of it
    reason: str = field(default="", compare=False)  # in words, when the policy failed safe
    hours: dict[str, Any] = field(default_factory=dict, compare=False)  # the calendar itself, as it was then

    def to_json(self) -> dict[str, Any]:
        """Return the terms as JSON; `from_json` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Terms:
        """Read stored terms; what an older version did not know gets today's default."""
        known = {one.name for one in fields(cls)}
        values: dict[str, Any] = {"rule": "", "policy_version": ""}
        for name, value in stored.items():
            if name in known:
                values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)

    def sign_in_fault(self, signed_in_at: datetime | None, now: datetime) -> str:
        """Return why the person has to sign in once more, "" where they need not; None is a token's."""
        minutes = self.fresh_sign_in_minutes
        if not minutes or (signed_in_at is not None and now - signed_in_at <= timedelta(minutes=minutes)):
            return ""
        return f"This needs a sign-in in the last {minutes} minutes. Sign in again, then decide."

    def differences(self, other: Terms, *, is_escalated: bool = False) -> list[str]:
        """Return the names of what differs in substance.

        The rule's name and the policy's version do not count; nor does the ladder, which stays as it was given. Once
        it has escalated, whom it has asked besides is a matter of who may decide: of `groups`.
        """
        found = [
            one.name
            for one in fields(self)
            if one.name not in _NOT_OF_SUBSTANCE and getattr(self, one.name) != getattr(other, one.name)
        ]
        if is_escalated and self.escalate_to != other.escalate_to and "groups" not in found:
            found.append("groups")
        return found


_NOT_OF_SUBSTANCE = {
    "rule",
    "policy_version",
    "reason",
    "remind_after",
    "escalate_after",
    "expire_after",
    "escalate_to",
    "calendar",
    "hours",
}

#: What holds when the policy cannot say: an admin decides, and somebody else than who asked.
FAIL_SAFE = Terms(
    rule="fail-safe",
    policy_version="",
    groups=("admin",),
    four_eyes=("requester", "editor", "owner"),
    verdicts=("approve", "reject"),
    may_bulk=False,
    risk="high",
)

#: what each part of substance is called in a sentence
WORDS = {
    "outcome": "whether people are needed",
    "groups": "who may decide",
    "people": "who may decide by name",
    "needed": "how many people must agree",
    "four_eyes": "who must not decide",
    "verdicts": "which verdicts are allowed",
    "fresh_sign_in_minutes": "whether a recent sign-in is needed",
    "may_bulk": "whether it may be decided with others",
    "dwell_seconds": "how long it must be read",
    "needs_fresh_data": "whether its data must be fresh",
    "may_change_fixed": "whether a change may touch what is fixed",
    "risk": "how high the risk is",
}
