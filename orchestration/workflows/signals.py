"""Read signals of any shape. No Django or database here: workflow code imports this."""

from __future__ import annotations

from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import RawValue


def ids_of(arguments: Sequence[RawValue]) -> tuple[str, str] | None:
    """Return approval and decision id of a well-formed decision, else `None`."""
    if len(arguments) != 1:
        return None
    try:
        body = workflow.payload_converter().from_payload(arguments[0].payload, dict)
        approval_id, decision_id = body["approval_id"], body["decision_id"]
    except Exception:  # noqa: BLE001  whatever was sent, it must not fail the workflow task
        return None
    if not isinstance(approval_id, str) or not isinstance(decision_id, str) or len(approval_id + decision_id) > 200:
        return None
    return approval_id, decision_id
