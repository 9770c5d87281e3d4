"""The same wait without the product: a signal, one activity, `Command(resume)`, the next node. Nothing else.

Run as a process of its own: `python -m bench.bare_path`, with TEMPORAL_ADDRESS and DATABASE_URL.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from typing import Any, TypedDict

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command, interrupt
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool
    from temporalio.worker import Worker

    from console.temporal_connection import connect, embedded

TASK_QUEUE = "bare"
SCHEMA = "bare"


@workflow.defn
class BareWait:
    def __init__(self) -> None:
        self._answer: str | None = None

    @workflow.run
    async def run(self, thread_id: str) -> int:
        await self._turn(thread_id, None)
        await workflow.wait_condition(lambda: self._answer is not None)
        return await self._turn(thread_id, self._answer)

    @workflow.signal
    def decided(self, answer: str) -> None:
        self._answer = answer

    async def _turn(self, thread_id: str, answer: str | None) -> int:
        reached: int = await workflow.execute_activity(
            "bare_turn", args=[thread_id, answer], result_type=int, start_to_close_timeout=timedelta(seconds=60)
        )
        return reached


class State(TypedDict, total=False):
    ballast: list[str]
    reached_at_ns: int


async def _propose(state: State) -> State:
    return {"ballast": ["x" * 1000] * 20}


async def _gate(state: State) -> State:
    interrupt("go on?")
    return {}


async def _next_node(state: State) -> State:
    return {"reached_at_ns": time.monotonic_ns()}


def _graph() -> StateGraph[Any, Any, Any, Any]:
    graph = StateGraph(State)
    graph.add_node("propose", _propose)
    graph.add_node("gate", _gate)
    graph.add_node("next_node", _next_node)
    graph.add_edge(START, "propose")
    graph.add_edge("propose", "gate")
    graph.add_edge("gate", "next_node")
    graph.add_edge("next_node", END)
    return graph


async def main() -> None:
    pool: Any = AsyncConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=2,
        max_size=24,
        open=False,
        kwargs={
            "autocommit": True,
            "prepare_threshold": 0,
            "row_factory": dict_row,
            "options": f"-c search_path={SCHEMA}",
        },
    )
    await pool.open()
    async with pool.connection() as connection:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    await AsyncPostgresSaver(pool).setup()
    graph = _graph()

    @activity.defn(name="bare_turn")
    async def bare_turn(thread_id: str, answer: str | None) -> int:
        app = graph.compile(checkpointer=AsyncPostgresSaver(pool))
        config: Any = {"configurable": {"thread_id": thread_id}}
        given: Any = Command(resume=answer) if answer else {}
        state = await app.ainvoke(given, config, durability="sync")
        return int(state.get("reached_at_ns", 0))

    client = await connect(embedded(os.environ["TEMPORAL_ADDRESS"], "default"))
    async with Worker(
        client, task_queue=TASK_QUEUE, workflows=[BareWait], activities=[bare_turn], max_concurrent_activities=20
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
