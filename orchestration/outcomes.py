"""What a program says came of what was approved for it.

The ledger sees the effects of our own agents. Of a program's there is its word only, so its word is kept, shown as
its word, and never changed: the first one stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from approvals import services as approvals
from approvals.errors import InvalidRequest, NoSuchApproval
from approvals.models import Approval
from approvals.people.permissions import AGREEING
from approvals.record.closings import closing_decision
from console.clock import DatabaseNow
from console.ports import Executed
from console.text.json_text import LIMIT_BYTES, size_fault
from console.text.stored import UNKEPT, all_can_be_kept, can_be_kept
from orchestration import deliveries
from orchestration.errors import NotToReport, OutcomeReported
from orchestration.models import ReportedOutcome

ERROR_LIMIT = 2000  # characters


@dataclass(frozen=True)
class Word:
    """What a program says. `status`: done, failed (nothing happened) or unknown."""

    status: str
    result: Any = None  # JSON, untrusted
    error: str = ""  # untrusted

    def digest(self) -> str:
        told = json.dumps([self.status, self.result, self.error], sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(told.encode()).hexdigest()


def report(*, approval_id: str, by: User, word: Word) -> None:
    """Keep the program's word; the same again changes nothing.

    Whoever says what came of it has the answer, so it is sent nowhere any more. Raises NoSuchApproval, also for what
    somebody else has asked for, InvalidRequest, NotToReport while nothing is approved, NotAsDecided, OutcomeReported
    for another word.
    """
    _check(word)
    with transaction.atomic():
        mine = Approval.objects.filter(source=Approval.Source.PROGRAM, requested_by=by, pk=approval_id)
        approval = mine.select_for_update(no_key=True).first()
        if approval is None:
            raise NoSuchApproval
        earlier = ReportedOutcome.objects.filter(pk=approval_id).first()
        if earlier is not None:
            if earlier.body_digest != word.digest():
                raise OutcomeReported(earlier.status)
            return
        decision = closing_decision(approval)
        if decision is None or decision.verdict not in AGREEING:
            raise NotToReport(decision.verdict if decision else approval.status)
        deliveries.body_of(approval)  # raises where other bytes are kept than were decided
        deliveries.taken(approval_id, f"{by.username} said what came of it", actor=by.username)
        ReportedOutcome.objects.create(
            pk=approval_id,
            status=word.status,
            result=word.result,
            error=word.error,
            body_digest=word.digest(),
            reported_by=by,
        )
        if word.status != ReportedOutcome.Status.DONE:  # it had counted as done where no word was expected
            reports = {**approval.asked, "reports": True}
            mine.update(took_effect_at=None, expected_by=DatabaseNow(), asked=reports)
        detail = f"{word.status}, says {by.username}" + (f": {word.error}" if word.error else "")
        approvals.note_effect(approval_id=approval_id, event=word.status, detail=detail, actor=by.username)


def executed(approval_ids: Sequence[str]) -> dict[str, Executed]:
    """Return what programs said of each approval, in the shape of the ledger's. What they used nobody here saw."""
    told = ReportedOutcome.objects.select_related("reported_by").in_bulk(list(approval_ids))
    rows = Approval.objects.in_bulk(list(told)) if told else {}
    return {
        pk: {
            "status": one.status,
            "tool": rows[pk].tool,
            "digest": rows[pk].digest,
            "arguments": None,
            "result": one.result,
            "error": one.error,
            "attempts": 1,
            "started_at": None,
            "finished_at": None if one.status == ReportedOutcome.Status.UNKNOWN else one.at,
            "reported_by": one.reported_by.username,
        }
        for pk, one in told.items()
    }


def _check(word: Word) -> None:
    errors = []
    if len(json.dumps(word.result)) > LIMIT_BYTES:
        errors.append({"path": "result", "message": f"It takes more than {LIMIT_BYTES // 1024} KiB."})
    elif not all_can_be_kept(word.result):
        errors.append({"path": "result", "message": UNKEPT})
    elif fault := size_fault(word.result):
        errors.append({"path": "result", "message": fault})
    if not can_be_kept(word.error):
        errors.append({"path": "error", "message": UNKEPT})
    if errors:
        raise InvalidRequest(errors)
