"""Tell the operators, once and by mail, that a run is stuck."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User

from approvals.services.reminders import Mail, one_for_each_address
from console import outbox
from console.outbox import Kind
from console.text.visible import one_line
from orchestration.models import Run


def tell(run: Run) -> list[str]:
    """Let the operators be told, or the admins where no operator has an address; return their user names.

    Call it in the transaction that finds the run stuck. Accounts with the same address get one mail.
    """
    told = _people("operator") or _people("admin")
    for user in told:
        outbox.enqueue(kind=Kind.RUN_STUCK, subject=run.pk, payload={"run_id": run.pk, "user_id": user.pk})
    return [user.username for user in told]


def mail_for(*, run_id: str, user_id: int) -> Mail | None:
    """Return the mail as it is right now; `None` when the run goes on meanwhile, or the person has left."""
    run = Run.objects.filter(pk=run_id, status__in=Run.OPEN, stuck_at__isnull=False).first()
    user = User.objects.filter(pk=user_id, is_active=True).exclude(email="").first()
    if run is None or user is None or run.failing_since is None:
        return None
    failure: dict[str, Any] = run.failure or {}
    lines = [
        f"The run {one_line(run.pk)} of {one_line(run.agent)} is stuck: its turn {run.turn} fails since "
        f"{run.failing_since:%-d %B %Y at %H:%M} UTC. It is tried again by itself, and nothing is lost meanwhile.",
        "",
        f"Attempt {failure.get('attempt')}: {one_line(str(failure.get('message', '')))[:500]}",
        "",
        f"{settings.PUBLIC_URL}/runs/{run.pk}/",
        "",
        "This is told once. Nothing is done by this mail.",
    ]
    return Mail(user.email, f"A run is stuck: {one_line(run.pk)[:150]}", "\n".join(lines))


def _people(role: str) -> list[User]:
    return one_for_each_address(User.objects.filter(groups__name=role))
