"""What changed between two checkpoints of a run, secrets hidden."""

from __future__ import annotations

from console.text.stored import asked_text
from orchestration import checkpoint_gateway
from orchestration.models import Run
from orchestration.state.difference import StateChange, differences
from orchestration.state.secrets import hidden_of


def changes_of(run: Run, checkpoint_id: str, against: str) -> tuple[str, list[StateChange]]:
    """Return the id of the one that was compared with, "" for nothing, and the changes. Raises NoSuchCheckpoint."""
    hidden = hidden_of(run.agent)
    after = checkpoint_gateway.checkpoint_of(run.pk, checkpoint_id)
    other = asked_text(against, 100) or after.parent_checkpoint_id or ""
    before = checkpoint_gateway.checkpoint_of(run.pk, other) if other else None
    unknown = {*after.by_changes, *(before.by_changes if before else ())}
    old, new = (
        hidden.without({name: value for name, value in values.items() if name not in unknown})
        for values in (before.values if before else {}, after.values)
    )
    return other, differences(old, new)
