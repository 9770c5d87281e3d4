"""How a guarded tool asks: as our own agents do, and it names the model's call. See `orchestration.agents.guarding`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestration.dialects.base import AskedInterrupt, Place
from orchestration.dialects.own import KEYS, Own


class Guard(Own):
    """One place. The tool is the graph's own, so a change of its arguments is held against its schema."""

    name = "guard"

    def speaks(self, value: Any) -> bool:
        return isinstance(value, dict) and value.get("guard") is True and value.keys() >= KEYS

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        (place,) = super().proposals_of(interrupt)
        return [replace(place, call_id=str(interrupt.value.get("call_id") or ""))]
