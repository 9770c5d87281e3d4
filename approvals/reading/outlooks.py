"""The quiet word about a request that people usually do not approve as it is. A word for the reader, never a verdict.

Only surprise is told. That people usually approve such requests would be an invitation to look less closely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from approvals.models import Approval, Outlook

SURPRISE: Final = 35  # of a hundred, and fewer


@dataclass(frozen=True)
class Surprise:
    """What to say, and the version of the model whose card says how far it can be trusted."""

    sentence: str
    model_version: int


def surprise_of(approval: Approval) -> Surprise | None:
    """Return the word about an open request as it is now; None when there is nothing unusual, or nothing known."""
    if approval.status != Approval.Status.PENDING:
        return None
    found = Outlook.objects.filter(approval=approval, version=approval.version, percent__lte=SURPRISE).first()
    if found is None:
        return None
    often = "almost never" if found.percent < 5 else f"about {found.percent} times in 100"
    return Surprise(f"People have approved such requests as they were {often}.", found.model_version)
