"""The saver of one turn: what the thread's newest checkpoints hold is read once, until something is written.

A turn looks at the checkpoint that the graph is to go on from, to check it; then the graph reads the same one. Each
time it would be fetched and made into objects. Nobody else writes while the turn holds the thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple, get_checkpoint_id
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver


@dataclass
class _Read:
    """What was read since the last write; shared by a saver and the copies that LangGraph makes of it."""

    newest: dict[Any, CheckpointTuple | None] = field(default_factory=dict)  # by serialiser, thread and namespace
    writes: int = 0

    def forget(self) -> None:
        self.writes += 1
        self.newest.clear()


class ReadingOnce(AsyncPostgresSaver):
    """LangGraph's saver, which keeps what it has read last. Each who asks gets containers of their own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read = _Read()

    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        if get_checkpoint_id(config):
            return await super().aget_tuple(config)
        where, read = config["configurable"], self._read
        key = (self.serde, where["thread_id"], where.get("checkpoint_ns", ""))  # another serialiser makes other objects
        if key not in read.newest:
            writes = read.writes
            found = await super().aget_tuple(config)
            if writes != read.writes:  # something was written meanwhile
                return found
            read.newest[key] = found
        return _copied(read.newest[key])

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().aput(*args, **kwargs)
        finally:
            self._read.forget()

    # By names: LangGraph leaves the path of a task out where the signature does not ask for it.
    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        try:
            await super().aput_writes(config, writes, task_id, task_path)
        finally:
            self._read.forget()

    async def adelete_thread(self, *args: Any, **kwargs: Any) -> None:
        try:
            await super().adelete_thread(*args, **kwargs)
        finally:
            self._read.forget()


def _copied(found: CheckpointTuple | None) -> CheckpointTuple | None:
    """Return the tuple with containers of its own: a graph changes those of the checkpoint that it goes on from."""
    if found is None:
        return None
    kept: Any = found.checkpoint
    checkpoint = kept | {
        "channel_values": dict(kept["channel_values"]),
        "channel_versions": dict(kept["channel_versions"]),
        "versions_seen": {node: dict(seen) for node, seen in kept["versions_seen"].items()},
    }
    return found._replace(
        checkpoint=checkpoint,
        metadata=found.metadata.copy(),
        pending_writes=None if found.pending_writes is None else list(found.pending_writes),
    )
