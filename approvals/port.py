"""What approvals answer to the frame, which knows no app. See `console.ports`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from approvals.pages.inbox import pane
from approvals.reading import listing, stalled
from approvals.reading.reach import stranded_now as stranded_now
from approvals.record import audit
from console.ports import Found


def record(*, actor: str, kind: str, subject: str, body: dict[str, Any]) -> None:
    audit.record(actor=actor, kind=kind, subject=subject, body=body)


def pending_count(user: User) -> int:
    return listing.pending_count_for(user)


def stopped_count(user: User) -> int:
    return stalled.own_count(user)


def found(user: User, words: str) -> list[Found]:
    return pane.found(user, words)
