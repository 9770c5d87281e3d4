"""The data plane as a graph sees it."""

from __future__ import annotations

from dataclasses import dataclass

from dataplane import selectors as datasets
from orchestration.agents.runtime import Passage, Passages
from orchestration.threads import in_database


@dataclass(frozen=True)
class PublishedDatasets:
    """The data plane as a graph sees it: published versions, through its selector."""

    async def search(self, dataset: str, query: str, limit: int) -> Passages:
        """Return the nearest passages; the turn is tried again while nothing has been published yet."""
        found = await in_database(datasets.nearest_passages, dataset=dataset, query=query, limit=limit)
        return Passages(
            dataset=found.dataset,
            version=found.version,
            passages=[
                Passage(
                    document=hit.document,
                    title=hit.title,
                    heading=hit.heading,
                    text=hit.text,
                    effective=hit.effective.isoformat() if hit.effective else "",
                    status=hit.status,
                )
                for hit in found.passages
            ],
        )
