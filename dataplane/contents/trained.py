"""Trained models: a card that people read, scores on data it was not trained on, and the model itself.

A version has four rows: `card`, `scores`, `calibration` and `numbers`. The last one holds what applies the model, and
beside it a file for programs that load it whole. Nothing here trains or loads: see `dataplane.flows`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dataplane.contents.base import CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.errors import QuestionInvalid

PARTS: Final = ("card", "scores", "calibration", "numbers")
SIDE: Final = 240  # of the square in which the calibration is drawn


@dataclass(frozen=True)
class TrainedModel:
    """The content of a version. Two trainings on the same data are the same content, whatever bytes the file has."""

    card: str  # Markdown
    scores: Mapping[str, float]  # on the held-out split
    calibration: Sequence[Mapping[str, float]]  # {"told", "was", "cases"}: shares from 0 to 1; empty: not a chance
    numbers: Mapping[str, Any]  # JSON: all that applying it takes, or what the file holds
    file: bytes
    inputs: Sequence[Mapping[str, Any]]  # [{"dataset", "version"}] that it was trained on
    embedder: str = ""

    @property
    def rows(self) -> int:
        return len(PARTS)

    def digest(self) -> str:
        shape = [self.embedder, list(self.inputs), *(self._body(name) for name in PARTS)]
        return hashlib.sha256(json.dumps(shape, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        for position, name in enumerate(PARTS):
            file = self.file if name == "numbers" else None
            cursor.execute(
                "INSERT INTO dataplane_record (version_id, position, name, body, file)"
                " VALUES (%s, %s, %s, %s::jsonb, %s)",
                [version_id, position, name, json.dumps(self._body(name), ensure_ascii=False), file],
            )

    def _body(self, name: str) -> Any:
        bodies = {
            "card": {"markdown": self.card},
            "scores": dict(self.scores),
            "calibration": {"bins": [dict(one) for one in self.calibration]},
            "numbers": dict(self.numbers),
        }
        return bodies[name]


@dataclass(frozen=True)
class Dot:
    """A bin of the calibration, where it is drawn: told to the right, seen upwards."""

    x: int
    y: int
    radius: int
    told: str  # in hundredths
    was: str
    cases: int


@dataclass(frozen=True)
class ModelPage:
    """What the version's page shows."""

    card: str
    scores: Sequence[tuple[str, str]]
    dots: Sequence[Dot] = field(default_factory=tuple)
    side: int = SIDE


class TrainedKind:
    """Models: read whole, compared by their scores."""

    name = "models"
    noun = "parts"
    template = "dataplane/contents/_model.html"

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return [("Embedding model", version.embedder)] if version.embedder else []

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return one object with card, scores, calibration and numbers; there is nothing to ask for."""
        if question:
            raise QuestionInvalid("A model is read whole: ask nothing of it.")
        return [self._parts(cursor, version)]

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        if after >= 0:
            return Shown([], None)
        parts = self._parts(cursor, version)
        if not parts:
            return Shown([], None)
        scores = [(name.replace("_", " "), _shown(value)) for name, value in parts["scores"].items()]
        most = max((int(one["cases"]) for one in parts["calibration"]["bins"]), default=1)
        dots = [_dot(one, most) for one in parts["calibration"]["bins"]]
        return Shown([ModelPage(parts["card"]["markdown"], scores, dots)], None)

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        """Compare scores, card and numbers by their names."""
        return compared(self._comparable(cursor, old), self._comparable(cursor, new))

    def _comparable(self, cursor: Cursor, version: Stored) -> dict[str, Any]:
        parts = self._parts(cursor, version)
        scores = {name.replace("_", " "): value for name, value in parts.get("scores", {}).items()}
        return {**scores, **{name: parts[name] for name in ("card", "numbers") if name in parts}}

    def _parts(self, cursor: Cursor, version: Stored) -> dict[str, Any]:
        cursor.execute("SELECT name, body::text FROM dataplane_record WHERE version_id = %s", [version.id])
        found = {name: json.loads(body) for name, body in cursor.fetchall()}
        return {name: found[name] for name in PARTS if name in found}


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _dot(one: Mapping[str, float], most: int) -> Dot:
    told, was, cases = one["told"], one["was"], int(one["cases"])
    radius = 4 + round(6 * (cases / most) ** 0.5)
    return Dot(round(told * SIDE), round((1 - was) * SIDE), radius, f"{told:.0%}", f"{was:.0%}", cases)


MODELS = TrainedKind()
