"""Rebuild the handbook's index as its flow does, without Prefect; as a program, so that it can be killed on the way."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from console.faults import reach
from dataplane import versions
from dataplane.catalogue import HANDBOOK_INDEX, IndexParameters
from dataplane.contents.passages import PassageContent, PassageRow
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.embedding import DIMENSIONS, Vectors, WordLlamaEmbedder, unit
from dataplane.flows.indexing import planned
from dataplane.questions import Question
from dataplane.refreshes.claim import claim

FLOW_RUN = "00000000-0000-4000-8000-000000000002"


def many(rows: int, *, seed: int = 1) -> PassageContent:
    """Return passages whose vectors lie in groups, as those of texts do."""
    chance = np.random.default_rng(seed)
    middles = chance.normal(size=(max(1, rows // 40), DIMENSIONS))
    drawn = middles[chance.integers(len(middles), size=rows)] + chance.normal(scale=0.6, size=(rows, DIMENSIONS))
    vectors: Vectors = unit(drawn.astype(np.float32))
    passages = [PassageRow(f"{n}.md", "T", "H", f"Passage {n} of {seed}", None, "current", "") for n in range(rows)]
    return PassageContent(passages, vectors, WordLlamaEmbedder.name)


def rebuild(key: str, questions: list[Question] | None = None, **parameters: Any) -> RefreshOutcome:
    order = RefreshOrder("handbook_index", key, parameters)
    with claim(HANDBOOK_INDEX, order, flow_run_id=FLOW_RUN) as claimed:
        if claimed.done is not None:
            return claimed.done
        chosen = IndexParameters.model_validate(claimed.parameters)
        plan, _ = planned("handbook", chosen, questions or [], flow_run_id=FLOW_RUN)
        reach("flow.before_publish", claimed.refresh_id)
        outcome = versions.publish(
            HANDBOOK_INDEX, plan, refresh_id=claimed.refresh_id, parameters=claimed.parameters, flow_run_id=FLOW_RUN
        )
        reach("flow.after_publish", claimed.refresh_id)
        return outcome


if __name__ == "__main__":
    rebuild(sys.argv[1], least_rows=int(sys.argv[2]), again=len(sys.argv) > 3)
