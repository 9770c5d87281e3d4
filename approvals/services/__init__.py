"""Every change of an approval. Each function is one transaction: may they, change, record, announce.

Nothing here knows an engine: what must reach one is put into the outbox and delivered by the relay.
"""

from __future__ import annotations

from approvals.services.deciding import Answer, decide
from approvals.services.executing import Authorised, authorise
from approvals.services.ladder import Rung, climb, withdraw
from approvals.services.opening import Proposal, open_approval
from approvals.services.receipts import note_effect, note_receipt

__all__ = [
    "Answer",
    "Authorised",
    "Proposal",
    "Rung",
    "authorise",
    "climb",
    "decide",
    "note_effect",
    "note_receipt",
    "open_approval",
    "withdraw",
]
