"""Four records of one request: what was proposed, shown, decided and executed. Any two can be held together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from approvals.models import Approval, Decision, ProposalVersion
from approvals.proposal.canonical import canonicalise, digest_of, read_canonical
from console import ports
from console.text.diff import Change, diff


@dataclass(frozen=True)
class ProposalRecord:
    """One of the records; `digest` is that of its bytes, made again from them."""

    name: str  # in the address
    title: str
    at: datetime | None
    digest: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """All records of a request, and the difference between the two that were asked for."""

    records: list[ProposalRecord]
    before: ProposalRecord
    after: ProposalRecord
    changes: list[Change]

    @property
    def is_same(self) -> bool:
        return self.before.digest == self.after.digest


def records_of(approval: Approval) -> list[ProposalRecord]:
    """Return the records that exist, in the order in which they came to be.

    The approval comes from `requests.approval_for`, with its versions and decisions.
    """
    versions = {version.version: version for version in approval.versions.all()}
    found = [_of_version("proposed", "Proposed by the agent", versions[1])] if 1 in versions else []
    found += [
        _of_version(f"version-{number}", f"Changed by {version.made_by}", version)
        for number, version in versions.items()
        if version.reason == ProposalVersion.Reason.EDITED
    ]
    for decision in approval.decisions.all():
        if decision.version in versions and decision.by:
            found.append(_of_decision("shown", f"Shown to {decision.by_name}", decision, versions[decision.version]))
    closing = _closing(approval)
    if closing is not None and closing.for_version in versions:
        found.append(_of_decision("decided", "Decided", closing, versions[closing.for_version]))
    executed = ports.agent_plane().effects_of([approval.pk]).get(approval.pk)
    if executed is not None and executed["arguments"] is not None:
        digest = digest_of(canonicalise(executed["tool"], executed["arguments"]))
        found.append(ProposalRecord("executed", "Executed", executed["started_at"], digest, executed["arguments"]))
    return found


def compare(approval: Approval, before: str = "", after: str = "") -> Comparison:
    """Hold two records together; without names the first against the last."""
    records = records_of(approval)
    by_name = {record.name: record for record in records}
    first, last = by_name.get(before, records[0]), by_name.get(after, records[-1])
    return Comparison(records, first, last, diff(first.arguments, last.arguments))


def _closing(approval: Approval) -> Decision | None:
    decisions = list(approval.decisions.all())
    return decisions[-1] if decisions and approval.status == Approval.Status.DECIDED else None


def _of_version(name: str, title: str, version: ProposalVersion) -> ProposalRecord:
    return _record(name, title, version.at, bytes(version.canonical))


def _of_decision(kind: str, title: str, decision: Decision, version: ProposalVersion) -> ProposalRecord:
    name = f"{kind}-{decision.pk}" if kind == "shown" else kind
    return _record(name, title, decision.at, bytes(version.canonical))


def _record(name: str, title: str, at: datetime | None, canonical: bytes) -> ProposalRecord:
    return ProposalRecord(name, title, at, digest_of(canonical), read_canonical(canonical)[1])
