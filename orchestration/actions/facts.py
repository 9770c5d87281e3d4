"""What several actions ask about a run before they say what they would do."""

from __future__ import annotations

from approvals import services as approvals
from console import health
from console.clock import DatabaseNow
from console.models import PartHeartbeat
from orchestration import ending
from orchestration.actions.base import Preview
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run


def check_open(run: Run) -> None:
    """Raise ActionRefused for a run that is closed, saying how it ended."""
    if run.status not in Run.OPEN:
        why = str((run.error or {}).get("message", ""))
        raise ActionRefused(f"The run is closed already: {run.status}. {why}".strip())


def of_closing(run: Run, warnings: list[str]) -> Preview:
    """Return what closing the run would do to its requests and decisions."""
    withdrawn, voided = approvals.open_of_run(run.pk), approvals.not_begun_of_run(run.pk, ending.begun(run.pk))
    return Preview([], withdrawn, approvals.decisions_of([*withdrawn, *voided]), [], warnings)


def effects_under_way(run: Run) -> list[str]:
    """Return a sentence for each effect that is being carried out, or of which nobody knows whether it happened."""
    found = []
    status = Effect.Status
    for effect in run.effects.filter(status__in=(status.EXECUTING, status.UNKNOWN)).order_by("started_at"):
        if effect.status == status.EXECUTING:
            found.append(
                f"{effect.tool} is being carried out right now. This does not stop it; how it ends is still recorded,"
                " as long as its worker lives."
            )
        else:
            found.append(
                f"Nobody knows whether {effect.tool} happened. The run will not ask any more: say it yourself."
            )
    return found


def parts_alive() -> dict[str, str]:
    """Return the parts of ours that are alive, each with what it says."""
    alive = PartHeartbeat.objects.filter(last_seen_at__gt=DatabaseNow() - health.SILENT_AFTER)
    return dict(alive.values_list("part", "detail"))


def temporal_away(parts: dict[str, str]) -> list[str]:
    """Return a sentence where Temporal cannot be told now."""
    if parts.get("relay", "waiting").startswith("delivering"):
        return []
    return ["Temporal cannot be told now. This is kept, and it is told as soon as it answers."]
