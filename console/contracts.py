"""What each boundary promises, in a form that the System page and `GET contracts` render.

Each app describes its own boundaries beside the code that keeps them, and plugs them in (`console.ports`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layer = Literal["agent", "durable", "data", "console"]


@dataclass(frozen=True)
class Boundary:
    """One contract between two layers."""

    name: str  # e.g. "console -> durable"
    version: int
    takes: str  # input shape
    gives: str  # output shape, with partial and failure variants
    key: str  # what makes a repetition the same request
    timeouts: str
    checkpoint: str  # where progress lives
    on_resume: str  # what the upper layer sees after an interruption
    must_not: str  # what each side never does


@dataclass(frozen=True)
class Step:
    """One step of the work and the layer that owns it."""

    step: str
    layer: Layer


@dataclass(frozen=True)
class Contracts:
    """What one app contributes to the System page."""

    boundaries: tuple[Boundary, ...]
    steps: tuple[Step, ...]
