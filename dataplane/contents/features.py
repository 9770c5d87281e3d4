"""Features of entities over time: what was true at a moment, as far as it was known then.

The words are Feast's: an entity has features, a view holds those of one kind of entity. Two times belong to each
value: `effective_at`, from when on it holds in the world, and `known_at`, when a flow first read it. A question names
one moment and is answered with what held then and was known then, so a training set never sees the future.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from dataplane.contents.base import CopyCursor, Cursor, Difference, Shown, Stored, compared
from dataplane.errors import QuestionInvalid


@dataclass(frozen=True)
class FeatureRow:
    """What a feature of an entity was from one moment on. `known_at` is None until it is compared with earlier ones."""

    entity: str
    feature: str
    value: Decimal | str
    effective_at: datetime
    known_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str, datetime]:
        return self.entity, self.feature, self.effective_at


@dataclass(frozen=True)
class Features:
    """The content of a version: the whole history of every value."""

    values: Sequence[FeatureRow]  # by entity, feature, effective_at, known_at
    embedder = ""

    @property
    def rows(self) -> int:
        return len(self.values)

    def digest(self) -> str:
        shape = [
            [row.entity, row.feature, _text(row.value), row.effective_at.isoformat(), _moment(row.known_at)]
            for row in self.values
        ]
        return hashlib.sha256(json.dumps(shape, ensure_ascii=False).encode()).hexdigest()

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        columns = "version_id, entity, feature, number, text, effective_at, known_at"
        with cursor.copy(f"COPY dataplane_featurevalue ({columns}) FROM STDIN") as copy:
            for row in self.values:
                is_number = isinstance(row.value, Decimal)
                number, text = (row.value, None) if is_number else (None, row.value)
                copy.write_row((version_id, row.entity, row.feature, number, text, row.effective_at, row.known_at))


def _text(value: Decimal | str) -> str:
    """Return the same text for the same number, however many zeros its column adds."""
    return format(value.normalize(), "f") if isinstance(value, Decimal) else f"text:{value}"


def _moment(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def remembered(computed: Iterable[FeatureRow], earlier: Iterable[FeatureRow], now: datetime) -> list[FeatureRow]:
    """Return the whole history after this computation, ordered: nothing that was ever known is dropped or changed.

    A value that is computed as it was known last keeps the moment when that was first known. Another value at the same
    moment is known from `now` on, and so is one that is not computed any more: there, what holds then is put beside it.
    """
    kept: dict[tuple[str, str, datetime], list[FeatureRow]] = {}
    for row in sorted(earlier, key=_order):
        kept.setdefault(row.key, []).append(row)
    fresh = {row.key: row for row in computed}
    for key, row in fresh.items():
        if key not in kept or kept[key][-1].value != row.value:
            kept.setdefault(key, []).append(_known(row, now))
    for key in kept.keys() - fresh.keys():
        entity, feature, moment = key
        value = _holding(fresh, entity, feature, moment, like=kept[key][-1].value)
        if value != kept[key][-1].value:
            kept[key].append(FeatureRow(entity, feature, value, moment, now))
    return sorted((row for rows in kept.values() for row in rows), key=_order)


def _holding(
    fresh: Mapping[tuple[str, str, datetime], FeatureRow],
    entity: str,
    feature: str,
    moment: datetime,
    *,
    like: Decimal | str,
) -> Decimal | str:
    """Return what holds at the moment as it is computed now; nothing, of the same type, when nothing does."""
    before = [row for row in fresh.values() if row.key[:2] == (entity, feature) and row.effective_at <= moment]
    if before:
        return max(before, key=lambda row: row.effective_at).value
    return Decimal(0) if isinstance(like, Decimal) else ""


def _known(row: FeatureRow, now: datetime) -> FeatureRow:
    return FeatureRow(row.entity, row.feature, row.value, row.effective_at, now)


def _order(row: FeatureRow) -> tuple[str, str, datetime, str]:
    return row.entity, row.feature, row.effective_at, _moment(row.known_at)


_VALUES = "entity, feature, number, text, effective_at, known_at"


class FeatureKind:
    """Features: asked by entity and moment, shown in order of entities."""

    name = "features"
    noun = "feature values"
    template = "dataplane/contents/_table.html"

    def facts(self, version: Stored) -> Sequence[tuple[str, str]]:
        return [("Times", "each value says from when on it holds, and since when that is known")]

    def read(self, cursor: Cursor, version: Stored, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return [{feature: value}] of `question["entity"]` at `question["at"]` (an aware datetime).

        Numbers are Decimal. A feature that had no value then is left out. Raises QuestionInvalid.
        """
        entity, at = question.get("entity"), question.get("at")
        if not isinstance(entity, str) or not isinstance(at, datetime) or at.tzinfo is None:
            raise QuestionInvalid("Ask features for an `entity` (text) and a moment `at` (with its zone).")
        cursor.execute(
            "SELECT DISTINCT ON (feature) feature, number, text FROM dataplane_featurevalue"
            " WHERE version_id = %s AND entity = %s AND effective_at <= %s AND known_at <= %s"
            " ORDER BY feature, effective_at DESC, known_at DESC",
            [version.id, entity, at, at],
        )
        return [{row[0]: plain(row[1]) if row[1] is not None else row[2] for row in cursor.fetchall()}]

    def show(self, cursor: Cursor, version: Stored, *, after: int, limit: int) -> Shown:
        cursor.execute(
            f"SELECT {_VALUES} FROM dataplane_featurevalue WHERE version_id = %s"
            " ORDER BY entity, feature, effective_at, known_at OFFSET %s LIMIT %s",
            [version.id, after + 1, limit],
        )
        items = [[str(cell) for cell in _cells(row)] for row in cursor.fetchall()]
        last = after + limit
        columns = ("Entity", "Feature", "Value", "Holds from", "Known since")
        return Shown(items, last if last + 1 < version.rows else None, columns)

    def difference(self, cursor: Cursor, old: Stored, new: Stored) -> Difference:
        """Compare what holds: the newest value of each feature of each entity."""
        return compared(self._newest(cursor, old), self._newest(cursor, new))

    def _newest(self, cursor: Cursor, version: Stored) -> dict[str, str]:
        cursor.execute(
            f"SELECT DISTINCT ON (entity, feature) {_VALUES} FROM dataplane_featurevalue WHERE version_id = %s"
            " ORDER BY entity, feature, effective_at DESC, known_at DESC",
            [version.id],
        )
        return {f"{row[0]} # {row[1]}": str(_cells(row)[2]) for row in cursor.fetchall()}


def _cells(row: Sequence[Any]) -> list[Any]:
    entity, feature, number, text, effective_at, known_at = row
    value = plain(number) if number is not None else text
    return [entity, feature, value, effective_at.isoformat(" ", "seconds"), known_at.isoformat(" ", "seconds")]


def plain(number: Decimal) -> Decimal:
    """Return the number without the zeros that its column adds: 12.50000000 is 12.50, 3.00000000 is 3."""
    whole = number.to_integral_value()
    if number == whole:
        return whole
    shorter = number.normalize()
    exponent = shorter.as_tuple().exponent
    return number.quantize(Decimal("0.01")) if isinstance(exponent, int) and exponent > -2 else shorter


FEATURES = FeatureKind()
