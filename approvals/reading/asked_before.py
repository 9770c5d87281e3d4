"""The request in whose place another one was asked: the run was set back, and its agent thought again."""

from __future__ import annotations

from dataclasses import dataclass

from approvals.models import Approval
from console.text.diff import Change, diff


@dataclass(frozen=True)
class AskedBefore:
    """The request of before, and what this one asks for differently."""

    approval: Approval
    changes: list[Change]
    is_same: bool  # byte for byte
    new_reads: list[str]  # "handbook 2 instead of 1"


def asked_before(approval: Approval) -> AskedBefore | None:
    """Return the newest request of the run for the same tool that was withdrawn before this one was asked."""
    if approval.source != Approval.Source.AGENT:
        return None
    rows = Approval.objects.filter(run_id=approval.run_id, tool=approval.tool, kind=approval.kind)
    withdrawn = rows.filter(status=Approval.Status.WITHDRAWN, closed_at__lte=approval.opened_at)
    before = withdrawn.exclude(pk=approval.pk).order_by("-closed_at", "-pk").first()
    if before is None:
        return None
    old, new = before.arguments, approval.arguments
    return AskedBefore(before, diff(old, new), before.digest == approval.digest, _new_reads(before, approval))


def asked_after(approval: Approval) -> Approval | None:
    """Return the request that the run asked in place of this one, which was withdrawn."""
    if approval.status != Approval.Status.WITHDRAWN or approval.source != Approval.Source.AGENT:
        return None
    rows = Approval.objects.filter(run_id=approval.run_id, tool=approval.tool, kind=approval.kind)
    return rows.filter(opened_at__gte=approval.closed_at).exclude(pk=approval.pk).order_by("opened_at", "pk").first()


def _new_reads(before: Approval, after: Approval) -> list[str]:
    old: dict[str, set[int]] = {}
    for read in before.dataset_versions:
        old.setdefault(read["dataset"], set()).add(read["version"])
    told = []
    for read in after.dataset_versions:
        versions = old.get(read["dataset"], set())
        if versions and read["version"] not in versions:
            told.append(f"{read['dataset']} version {read['version']} instead of {max(versions)}")
    return told
