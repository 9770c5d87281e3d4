"""The steps of the graph: each checkpoint as the time since the one before it, and where the graph has asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse

from approvals.models import Approval, ReceiptStep
from orchestration import checkpoint_gateway
from orchestration.checkpoint_gateway import CheckpointLine
from orchestration.models import Run
from orchestration.timeline.entries import Entry, StoryWish


def steps(run: Run, wish: StoryWish) -> list[Entry]:
    """Return the steps of the outermost graph. Two queries, three where the graph has sent tasks."""
    lines = _lines(run, wish)
    resumed = resumed_at(run, lines)
    return wish.takes(_entry(run, line, resumed) for line in lines)


def _lines(run: Run, wish: StoryWish) -> list[CheckpointLine]:
    """Return lines of the asked side, some more than asked: an id and the moment in it may differ a little."""
    most = wish.most + 3
    if wish.beyond is None:
        return checkpoint_gateway.checkpoints_of(run.pk, limit=most, after=None if wish.newest_first else "")
    at, layer, reference = wish.beyond
    edge = reference.partition(":")[2] if layer == "langgraph" else checkpoint_gateway.id_at(at)
    if wish.newest_first:
        return checkpoint_gateway.checkpoints_of(run.pk, before=edge, limit=most)
    return checkpoint_gateway.checkpoints_of(run.pk, after=edge, limit=most)


def resumed_at(run: Run, lines: list[CheckpointLine]) -> dict[str, datetime]:
    """Return when the graph went on from where it had asked, by the id of that checkpoint. One query at most.

    A step after a question has waited for people first, and that is no work of its node.
    """
    asked = [line.parent_checkpoint_id for line in lines if line.parent_checkpoint_id]
    if not asked:
        return {}
    steps = ReceiptStep.objects.filter(
        approval__run_id=run.pk, approval__checkpoint_id__in=asked, step=ReceiptStep.Step.RESUMED
    ).order_by("at")
    found = dict(steps.values_list("approval__checkpoint_id", "at"))
    return {str(key): at for key, at in found.items()}


def began_at(line: CheckpointLine, resumed: dict[str, datetime]) -> datetime | None:
    """Return when the step's nodes began: after the one before it, or when the answer came that it had waited for."""
    after_answer = resumed.get(line.parent_checkpoint_id or "")
    if line.began_at is None or after_answer is None or after_answer > line.at:
        return line.began_at
    return max(line.began_at, after_answer)


def _entry(run: Run, line: CheckpointLine, resumed: dict[str, datetime]) -> Entry:
    kind = "interrupt" if line.interrupted else "checkpoint"
    became = " failed" if line.failed else " asked" if line.interrupted else ""
    words = []
    if line.changed:
        words.append(f"changed {', '.join(line.changed[:6])}{' …' if len(line.changed) > 6 else ''}")
    if line.next:
        words.append(f"then {', '.join(line.next)}{became}")
    return Entry(
        at=line.at,
        layer="langgraph",
        kind=kind,
        title=line.node,
        detail=" · ".join(words),
        reference=line.checkpoint_id,
        state="done",
        began_at=began_at(line, resumed),
        ended_at=line.at,
        url=reverse("orchestration:checkpoint", args=[run.pk, line.checkpoint_id]),
    )


def under_way(run: Run) -> list[Entry]:
    """Return the nodes that run now, from the newest checkpoint; none unless the run works. One query."""
    if run.status != Run.Status.RUNNING:
        return []
    (line,) = checkpoint_gateway.checkpoints_of(run.pk, limit=1) or (None,)
    if line is None or not line.next:
        return []
    began: Any = max(line.at, _answered_at(run, line) or line.at)
    return [
        Entry(
            at=began,
            layer="langgraph",
            kind="node",
            title=f"{', '.join(line.next)} runs, turn {run.turn}",
            reference=line.checkpoint_id,
            state="running",
            began_at=began,
            url=reverse("orchestration:checkpoint", args=[run.pk, line.checkpoint_id]),
        )
    ]


def _answered_at(run: Run, line: CheckpointLine) -> datetime | None:
    if not line.interrupted:
        return None
    closed = Approval.objects.filter(run_id=run.pk, checkpoint_id=line.checkpoint_id, closed_at__isnull=False)
    return closed.order_by("-closed_at").values_list("closed_at", flat=True).first()
