"""What searching one version came to, over questions whose right passage is known. Pure but for `keep`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dataplane.contents.base import Cursor
from dataplane.questions import Question, digest_of

FIRST: Final = 5  # of the list, where a right passage counts as found
WAYS: Final = {"exact": "exact", "index": "HNSW index", "adapter": "exact, with a trained adapter"}


@dataclass(frozen=True)
class SearchFigures:
    """What one way of searching one version came to."""

    method: str  # see `dataplane.models.SearchScore`
    questions_digest: str
    questions: int
    found: int
    mean_reciprocal_rank: float
    missed: Sequence[Mapping[str, Any]]  # {"ask", "wanted", "found"}

    @property
    def recall(self) -> float:
        return self.found / self.questions if self.questions else 0.0


def figures_of(method: str, questions: Sequence[Question], answers: Sequence[Sequence[str]]) -> SearchFigures:
    """Return the figures of these answers: for each question the names of the passages found, nearest first."""
    missed, ranks = [], 0.0
    for question, names in zip(questions, answers, strict=True):
        first = next((rank for rank, name in enumerate(names[:FIRST], 1) if name in question.passages), 0)
        if first:
            ranks += 1 / first
        else:
            missed.append({"ask": question.ask, "wanted": list(question.passages), "found": list(names[:FIRST])})
    total = len(questions)
    return SearchFigures(
        method, digest_of(questions), total, total - len(missed), ranks / total if total else 0.0, missed
    )


def keep(cursor: Cursor, version_id: int, score: SearchFigures) -> None:
    """Keep the figures beside the version; the same questions again replace them."""
    cursor.execute(
        "INSERT INTO dataplane_searchscore"
        " (version_id, method, questions_digest, questions, found, mean_reciprocal_rank, missed)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb)"
        " ON CONFLICT (version_id, method, questions_digest) DO UPDATE SET found = excluded.found,"
        " mean_reciprocal_rank = excluded.mean_reciprocal_rank, missed = excluded.missed,"
        " measured_at = signalbox_now()",
        [
            version_id,
            score.method,
            score.questions_digest,
            score.questions,
            score.found,
            score.mean_reciprocal_rank,
            json.dumps(score.missed, ensure_ascii=False),
        ],
    )


def row_of(score: SearchFigures) -> dict[str, Any]:
    """Return the figures as a row of a table that people read."""
    return {
        "search": WAYS[score.method],
        "recall@5": f"{score.recall:.3f}",
        "found": f"{score.found} of {score.questions}",
        "mean reciprocal rank": f"{score.mean_reciprocal_rank:.3f}",
    }
