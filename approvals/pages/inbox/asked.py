"""What the address asks a list to show. Everything is in the address, so that it can be shared and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict

from approvals.models import Approval
from approvals.reading.listing import ORDERS, Filters
from console.lists.longer_lists import STEP, rows_wanted
from console.text.stored import asked_text

ALL: Final = "all"
DUE: Final = {1: "1 hour", 4: "4 hours", 24: "24 hours", 72: "3 days"}
RISKS: Final = {"high": "High risk", "medium": "Medium risk", "low": "Low risk"}
SORTED: Final = {
    "": "Risk, deadline, age",
    "due_at": "Deadline",
    "opened_at": "Newest first",
    "unusual": "Unusual first",
}


@dataclass(frozen=True)
class InboxWishes:
    """The wishes of one address; what is usual is empty."""

    status: str = Approval.Status.PENDING  # or ALL
    search: str = ""
    agent: str = ""
    tool: str = ""
    risk: str = ""
    mine: bool = False
    claimed: bool = False
    due: int = 0  # hours
    same: str = ""  # an approval's id
    order: str = ""
    cursor: str = ""
    limit: int = STEP
    batch: str = ""  # a batch's id

    def query(self, **changes: Any) -> str:
        """Return the query string for this list, with changes; what is usual is left out."""
        values = {name: getattr(self, name) for name in _USUAL} | changes
        told = {name: _told(value) for name, value in values.items() if value != _USUAL[name]}
        return f"?{urlencode(told)}" if told else ""

    @property
    def is_narrowed(self) -> bool:
        return bool(self.narrowed_by())

    def narrowed_by(self) -> dict[str, str]:
        """Return each filter that is on, in words a person reads."""
        said = {
            "search": f"“{self.search}”" if self.search else "",
            "mine": "I may decide" if self.mine else "",
            "claimed": "Claimed by me" if self.claimed else "",
            "agent": self.agent,
            "tool": self.tool,
            "risk": RISKS.get(self.risk, ""),
            "due": f"Due in {DUE[self.due]}" if self.due else "",
            "batch": f"Batch {self.batch}" if self.batch else "",
            "same": f"Same as {self.same}" if self.same else "",
        }
        return {name: words for name, words in said.items() if words}


_USUAL: Final = {name: field.default for name, field in InboxWishes.__dataclass_fields__.items()}


def _told(value: Any) -> Any:
    return "1" if value is True else value


def read_asked(request: HttpRequest) -> InboxWishes:
    """Read the list's wishes from the address; what cannot be understood is as usual."""
    return asked_of(request.GET)


def asked_of(sent: QueryDict | Mapping[str, str]) -> InboxWishes:
    """Read the list's wishes from the parts of a query string."""
    status, due = sent.get("status", ""), sent.get("due", "")
    risk, order = sent.get("risk", ""), sent.get("order", "")
    known = {*Approval.Status.values, ALL}
    return InboxWishes(
        status=status if status in known else Approval.Status.PENDING,
        search=_text(sent, "search", 200),
        agent=_text(sent, "agent", 100),
        tool=_text(sent, "tool", 100),
        risk=risk if risk in RISKS else "",
        mine=sent.get("mine") == "1",
        claimed=sent.get("claimed") == "1",
        due=int(due) if due in map(str, DUE) else 0,
        same=_text(sent, "same", 40),
        batch=_text(sent, "batch", 40),
        order=order if order in SORTED and status in ("", Approval.Status.PENDING) else "",
        cursor=_text(sent, "cursor", 300),
        limit=rows_wanted(sent.get("limit", "")),
    )


def _text(sent: QueryDict | Mapping[str, str], name: str, most: int) -> str:
    return asked_text(sent.get(name), most)


def filters_of(asked: InboxWishes) -> Filters:
    """Return what the list is narrowed by, and its order."""
    by_risk = asked.status == Approval.Status.PENDING and asked.order not in ORDERS
    return Filters(
        status="" if asked.status == ALL else asked.status,
        agent=asked.agent,
        tool=asked.tool,
        risk=asked.risk,
        search=asked.search,
        mine=asked.mine,
        order="risk" if by_risk else asked.order,
        claimed=asked.claimed,
        due_hours=asked.due,
        same_as=asked.same,
        batch=asked.batch,
    )
