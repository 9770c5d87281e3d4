"""What Signalbox tells a program: the request as it stands, and the answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Approval:
    """A request as it stands. `body` is all that Signalbox says of it."""

    id: str
    status: str  # pending, decided, expired, withdrawn
    url: str  # where people see it
    body: Mapping[str, Any] = field(repr=False)

    @property
    def is_pending(self) -> bool:
        return self.status == "pending"

    @property
    def executed(self) -> Mapping[str, Any] | None:
        """What came of it, as it was reported; None while nothing was."""
        return self.body.get("executed")

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Approval:
        return cls(id=body["id"], status=body["status"], url=body.get("url", ""), body=body)


@dataclass(frozen=True)
class Answer:
    """The answer to a request, however it came: fetched, by webhook or by signal.

    Use its `arguments`, not your own: after the verdict `edit` they differ. They are None unless it was approved.
    """

    approval_id: str
    status: str  # decided, expired, withdrawn
    verdict: str | None  # approve, edit, reject, respond; None where nobody decided, or it may not be done any more
    arguments: dict[str, Any] | None
    answer: Any = None  # in the tool's place, for `respond`
    note: str = ""
    decided_by: str | None = None
    decided_at: str | None = None
    decision_id: str | None = None
    external_id: str | None = None
    digest: str = ""

    @property
    def approved(self) -> bool:
        return self.verdict in ("approve", "edit")

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Answer:
        """Return the answer in a body; what a newer Signalbox says besides is passed over."""
        return cls(**{name: body[name] for name in cls.__dataclass_fields__ if name in body})
