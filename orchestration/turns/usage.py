"""What a run's model has used."""

from __future__ import annotations

from typing import Any

from orchestration.agents.models import model_name


def usage_of(state: dict[str, Any]) -> dict[str, Any]:
    """Add up what the model's messages say they cost; kept in state, so a crash loses none of it."""
    spent = [getattr(message, "usage_metadata", None) or {} for message in state.get("messages", [])]
    return {
        "model": model_name(),
        "input_tokens": sum(one.get("input_tokens", 0) for one in spent),
        "output_tokens": sum(one.get("output_tokens", 0) for one in spent),
    }
