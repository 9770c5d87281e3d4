"""What a run that was set back had done by then, where it asks for the same tool again: done twice, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from approvals.models import Approval
from approvals.proposal.canonical import canonicalise, digest_of, read_canonical
from console import ports
from console.text.diff import Change, diff


@dataclass(frozen=True)
class DoneBefore:
    """One effect from before the run was set back, which stands."""

    approval: Approval  # it was done under this one
    is_certain: bool  # False: it was begun, and nobody has seen its end
    at: datetime | None  # of its end, else of its begin
    is_same: bool  # what is asked for now is that, byte for byte, and is not done a second time
    changes: list[Change]  # from what was done to what is asked for now


def done_before(approval: Approval, changed: dict[str, Any] | None = None) -> list[DoneBefore]:
    """Return what was done and may be meant once more by an open request of an agent, oldest first.

    Where one effect is exactly what is asked for, approving does it no second time, and only that one is told.
    `changed`: the arguments as somebody is about to change them. One query, two when there is something to tell.
    """
    is_asked = approval.status == Approval.Status.PENDING and approval.kind == Approval.Kind.ACTION
    if approval.source != Approval.Source.AGENT or not is_asked:
        return []
    effects = ports.agent_plane().done_before(approval.run_id, approval.tool)
    if not effects:
        return []
    digest = approval.digest if changed is None else digest_of(canonicalise(approval.tool, changed))
    arguments = read_canonical(bytes(approval.canonical))[1] if changed is None else changed
    asked = Approval.objects.in_bulk([pk for pk in effects if pk != approval.pk])
    found = [
        DoneBefore(
            approval=asked[pk],
            is_certain=one["status"] == "done",
            at=one["finished_at"] or one["started_at"],
            is_same=one["digest"] == digest,
            changes=diff(one["arguments"] or {}, arguments),
        )
        for pk, one in effects.items()
        if pk in asked
    ]
    same = [one for one in found if one.is_same]
    return same[:1] or found
