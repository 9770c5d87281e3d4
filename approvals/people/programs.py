"""What an approval keeps of the program that asked for it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.models import User

from approvals.models import Approval


def stored_external_id(owner: User, external_id: str) -> str:
    """Return the id under which the row is kept: each account has ids of its own."""
    return f"program/{owner.pk}/{external_id}"


def external_id_of(approval: Approval) -> str | None:
    """Return the program's own id of its request, `None` for an agent's."""
    if approval.source != Approval.Source.PROGRAM:
        return None
    return approval.external_id.split("/", 2)[2]


def where_to(deliver_to: dict[str, Any] | None) -> str:
    """Return in words where the answer goes. Of an address only the host, for its path may hold a secret."""
    if deliver_to is None:
        return "the program, which fetches it"
    if "webhook" in deliver_to:
        return f"webhook at {urlsplit(deliver_to['webhook']['url']).hostname}"
    temporal = deliver_to["temporal"]
    return f"signal {temporal['signal']} to workflow {temporal['workflow_id']}"
