"""What the worker does for the workflow of a batch."""

from __future__ import annotations

from temporalio import activity

from orchestration.batches import feeding
from orchestration.contracts import FEED, Fed, FeedBatch
from orchestration.threads import in_database


class BatchActivities:
    """The activities of a batch."""

    @activity.defn(name=FEED)
    async def feed_batch(self, batch: FeedBatch) -> Fed:
        """Take one step. On retry: what was made is there, and the rest is made."""
        return await in_database(feeding.feed, batch.batch_id)
