"""What can go wrong with an approval.

ApprovalError
  NoSuchApproval
  MayNotDecide          not a person whom the policy names
  AlreadyClosed         somebody, the deadline or the run's end was first
  StaleVersion          the shown version or digest is not the current one
    StaleTerms          the policy has changed since it was shown
    BytesChanged        the kept bytes are not those that the digest was made of
  InvalidVerdict        the verdict or what comes with it cannot be taken
  KeyReused             the same idempotency key with another body
  NotAuthorised         an effect was asked for that nobody approved
  NotRecorded           the connection to the database broke first; nothing was changed
  NotKnown              it broke, and whether the decision was recorded cannot be found out yet
  NothingToRedrive      the decision does not stand still, or this cannot help it on
  InvalidRequest        what a program asks for cannot be taken
  ExternalIdReused      the same external id with another body
  NotTheirs             a change around an approval that is not this person's to make
  AlreadyClaimed        somebody else holds the approval
  InvalidChange         what was typed for such a change cannot be taken
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from console.refusals import EngineAway, Invalid, NotFound, Refused

if TYPE_CHECKING:
    from approvals.record.closings import RequestClosing


class ApprovalError(Refused):
    """Something about an approval cannot be done."""


class NoSuchApproval(ApprovalError, NotFound):
    """There is no such approval, or it may not be seen."""

    what = "approval"

    @property
    def sentence(self) -> str:
        return "There is no such request, or you may not see it."


class MayNotDecide(ApprovalError):
    """The policy does not name this person."""

    http_status = 403
    title = "Not allowed"

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule

    def facts(self) -> dict[str, Any]:
        return {"rule": self.rule}


class AlreadyClosed(ApprovalError):
    """The approval was closed before; carries who and when."""

    title = "Already closed"

    def __init__(self, closing: RequestClosing) -> None:
        self.closing = closing
        fact = closing.sentence
        late = f"Already decided: {fact[0].lower()}{fact[1:]}" if closing.status == "decided" else fact
        super().__init__(late)

    def facts(self) -> dict[str, Any]:
        return {
            "decided_by": self.closing.by,
            "decided_at": self.closing.at,
            "verdict": self.closing.verdict,
            "approval_status": self.closing.status,
        }


class StaleVersion(ApprovalError):
    """The decision was about another version of the proposal than the current one."""

    title = "Not the current version"

    def __init__(self, current_version: int) -> None:
        super().__init__("What you saw is not the current proposal. Read it again before you decide.")
        self.current_version = current_version

    def facts(self) -> dict[str, Any]:
        return {"current_version": self.current_version}


class StaleTerms(StaleVersion):
    """The policy has changed since the approval was shown; it now stands under the new terms."""

    def __init__(self, current_version: int, changed: str) -> None:
        super().__init__(current_version)
        self.changed = changed

    def __str__(self) -> str:
        return f"The policy changed meanwhile ({self.changed}). Read what holds now, then decide."


class BytesChanged(StaleVersion):
    """The approval's bytes were changed behind the application's back: they are not those of its digest."""

    def __str__(self) -> str:
        return "What is kept of this request was changed, so nobody can decide it. Tell an admin."


class InvalidVerdict(ApprovalError, Invalid):
    """The verdict cannot be taken as it was sent; `errors`: [{"path", "message"}]."""

    def __init__(self, path: str, message: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.errors = [
            {"path": ".".join(filter(None, (path, error["path"]))), "message": error["message"]}
            for error in errors or [{"path": "", "message": message}]
        ]


class KeyReused(ApprovalError):
    """The same idempotency key came with another decision."""

    title = "Key used before"


class NotAuthorised(ApprovalError):
    """No standing approval covers the effect; the message says why. Never retried."""


class NotRecorded(ApprovalError, EngineAway):
    """The connection to the database broke before your decision was saved. It was not recorded; decide again."""

    title = "Postgres is away"
    engine = "postgres"
    still_works = "The decision was not recorded; send the same request again."


class NotKnown(ApprovalError, EngineAway):
    """The database went away while your decision was being saved. Whether it was recorded is not known yet."""

    title = "Postgres is away"
    engine = "postgres"
    still_works = "Whether the decision was recorded is not known yet; send the same request again, it counts once."


class NothingToRedrive(ApprovalError):
    """The decision does not stand still, or what was asked for cannot help it on; the message says which."""


class NotTheirs(ApprovalError):
    """The change is not this person's to make; the message says whose it is."""

    http_status = 403
    title = "Not allowed"


class AlreadyClaimed(ApprovalError):
    """Somebody else holds the approval, which keeps nobody from deciding it."""

    def __init__(self, by: str) -> None:
        super().__init__(f"{by} has claimed this already. You can still decide it, or ask {by} to hand it to you.")
        self.by = by


class InvalidChange(ApprovalError, Invalid):
    """What was typed cannot be taken; `field` names the input at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.errors = [{"path": field, "message": message}]


class InvalidRequest(ApprovalError, Invalid):
    """A program's request cannot be taken; `errors`: [{"path", "message"}]."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{errors[0]['path'] or 'body'}: {errors[0]['message']}")
        self.errors = errors


class ExternalIdReused(ApprovalError):
    """This external id was used for another request. Use a new one."""

    title = "External id used before"
