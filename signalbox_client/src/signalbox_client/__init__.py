"""Ask people for an approval through Signalbox, wait for their answer, and say what came of it.

    box = Signalbox("https://signalbox.example", token="sb_...")
    asked = box.ask("Delete orders-2019", tool="delete_index", arguments={"name": "orders-2019"}, key="job-17")
    answer = box.answer(asked, wait=3600)

`require_approval` does the three around a function of yours. `AsyncSignalbox` is the same with `await`.
"""

from __future__ import annotations

from signalbox_client.answers import Answer, Approval
from signalbox_client.client import AsyncSignalbox, Signalbox
from signalbox_client.errors import (
    BadSignature,
    FailedBefore,
    NotApproved,
    NothingHappened,
    NotReported,
    OutcomeUnknown,
    Refused,
    Rejected,
    SignalboxError,
    StillPending,
    Unreachable,
)
from signalbox_client.guarding import require_approval
from signalbox_client.webhooks import read_webhook

__all__ = [
    "Answer",
    "Approval",
    "AsyncSignalbox",
    "BadSignature",
    "FailedBefore",
    "NotApproved",
    "NotReported",
    "NothingHappened",
    "OutcomeUnknown",
    "Refused",
    "Rejected",
    "Signalbox",
    "SignalboxError",
    "StillPending",
    "Unreachable",
    "read_webhook",
    "require_approval",
]
