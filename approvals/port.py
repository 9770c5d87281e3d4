"""What approvals answer to the frame, which knows no app. See `console.ports`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from approvals import audit, inbox, lane
from approvals.reach import stranded_now as stranded_now
from console.ports import Found


def record(*, actor: str, kind: str, subject: str, body: dict[str, Any]) -> None:
    audit.record(actor=actor, kind=kind, subject=subject, body=body)


def pending_count(user: User) -> int:
    return inbox.pending_count_for(user)


def stopped_count(user: User) -> int:
    return lane.own_count(user)


def found(user: User, words: str) -> list[Found]:
    return inbox.found(user, words)
