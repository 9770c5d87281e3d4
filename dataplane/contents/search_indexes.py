"""How the current version of a dataset is searched: by an index that was checked, or exactly, and why.

Publishing a version of this kind is what puts an index into service: one transaction writes the version and moves the
word "serving" from the index before to this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.contents.base import CopyCursor
from dataplane.contents.records import RecordKind


@dataclass(frozen=True)
class SearchPlan:
    """The content of a version: one row that says how one version of a dataset is searched."""

    body: Mapping[str, Any]  # dataset, version, passages, method, sentence; of an index also relation and figures
    rows = 1
    embedder = ""

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def copy(self, cursor: CopyCursor, version_id: int) -> None:
        """Write the row, and put its index into service in place of the one before. Raises LookupError without it."""
        name = f"{self.body['dataset']} {self.body['version']}"
        cursor.execute(
            "INSERT INTO dataplane_record (version_id, position, name, body) VALUES (%s, 0, %s, %s::jsonb)",
            [version_id, name, json.dumps(self.body, ensure_ascii=False)],
        )
        relation = self.body.get("relation")
        if relation is None:
            cursor.execute(
                "UPDATE dataplane_searchindex SET state = 'replaced', ended_at = signalbox_now()"
                " WHERE state = 'serving' AND relation = %s",
                [self.body.get("replaces", "")],
            )
            return
        cursor.execute(
            "UPDATE dataplane_searchindex SET state = 'replaced', ended_at = signalbox_now() WHERE state = 'serving'"
            " AND relation <> %s AND version_id = (SELECT version_id FROM dataplane_searchindex WHERE relation = %s)",
            [relation, relation],
        )
        cursor.execute(
            "UPDATE dataplane_searchindex SET state = 'serving', served_at = coalesce(served_at, signalbox_now())"
            " WHERE relation = %s AND state IN ('checked', 'serving') RETURNING id",
            [relation],
        )
        if not cursor.fetchall():
            raise LookupError(f"the index {relation} is gone, so it cannot be put into service")


def _cells(body: Mapping[str, Any]) -> list[str]:
    recall = f"{body['recall']:.1%}" if "recall" in body else ""
    return [str(body["version"]), str(body["passages"]), str(body["method"]), recall, str(body["sentence"])]


SEARCH_PLANS = RecordKind(
    "search_plans",
    "search plan",
    columns=("Version searched", "Passages", "Method", "Recall at 5", "In words"),
    cells=_cells,
    filters=("dataset", "version", "method"),
)
