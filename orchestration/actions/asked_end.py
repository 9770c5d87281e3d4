"""What an operator has asked for on the way to a run's end, as the row keeps it: who, why and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console.clock import database_now
from orchestration.actions.base import Wish
from orchestration.models import Run


def keep(run: Run, wish: Wish, action: str) -> None:
    """Write into the row what is asked."""
    asked = {"action": action, "by": wish.by, "reason": wish.reason, "at": database_now().isoformat()}
    Run.objects.filter(pk=run.pk).update(ending=asked)


def is_asked_by(action: str) -> Callable[[Run, str], bool]:
    """Return whether a person has asked for just this action already, as a question about a run and a user name."""

    def is_same(run: Run, by: str) -> bool:
        asked: dict[str, Any] = run.ending or {}
        return (asked.get("action"), asked.get("by")) == (action, by)

    return is_same
