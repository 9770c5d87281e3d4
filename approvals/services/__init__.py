"""Every change of an approval. Each function is one transaction: may they, change, record, announce.

Nothing here knows an engine: what must reach one is put into the outbox and delivered by the relay.
"""

from __future__ import annotations

from approvals.services.claims import claim, reassign, release
from approvals.services.commenting import comment
from approvals.services.deciding import Answer, Circumstances, decide
from approvals.services.deciding_for_sure import Recorded, decide_for_sure, find_recorded
from approvals.services.delegating import confirm_delegation, delegate, revoke_delegation
from approvals.services.ending import LetGo, decisions_of, hold_of_run, let_go, not_begun_of_run, open_of_run, set_back
from approvals.services.executing import Authorised, authorise, refuse_what_may_not_run
from approvals.services.ladder import Rung, climb, climb_overdue, escalate_now, withdraw, withdraw_each
from approvals.services.linking import confirm_link, drop_link, propose_link
from approvals.services.opening import Proposal, open_approval
from approvals.services.receipts import (
    hold_all,
    hold_receipts,
    note_effect,
    note_not_taken,
    note_receipt,
    set_aside,
    stand_still,
)
from approvals.services.renewing import policy_in_force, renew_terms, renew_under_active_policy
from approvals.services.seeding import seed_attention_check
from approvals.services.standing import make_standing, revoke_standing

__all__ = [
    "Answer",
    "Authorised",
    "Circumstances",
    "LetGo",
    "Proposal",
    "Recorded",
    "Rung",
    "authorise",
    "claim",
    "climb",
    "climb_overdue",
    "comment",
    "confirm_delegation",
    "confirm_link",
    "decide",
    "decide_for_sure",
    "decisions_of",
    "delegate",
    "drop_link",
    "escalate_now",
    "find_recorded",
    "hold_all",
    "hold_of_run",
    "hold_receipts",
    "let_go",
    "make_standing",
    "not_begun_of_run",
    "note_effect",
    "note_not_taken",
    "note_receipt",
    "open_approval",
    "open_of_run",
    "policy_in_force",
    "propose_link",
    "reassign",
    "refuse_what_may_not_run",
    "release",
    "renew_terms",
    "renew_under_active_policy",
    "revoke_delegation",
    "revoke_standing",
    "seed_attention_check",
    "set_aside",
    "set_back",
    "stand_still",
    "withdraw",
    "withdraw_each",
]
