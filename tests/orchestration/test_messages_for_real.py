"""What an operator sends by hand, on a real Temporal."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from ulid import ULID

from orchestration.contracts import HandWritten
from orchestration.errors import NotAnswered, OrchestrationError, TemporalRefused, WorkflowGone
from orchestration.temporal_gateway import RealTemporal
from stack.temporal import Temporal
from tests.orchestration.conftest import go

pytestmark = pytest.mark.django_db(transaction=True)
QUEUE = "hand written"


@workflow.defn(name="Till")
class Till:
    """A workflow of another team."""

    def __init__(self) -> None:
        self.coins: list[int] = []
        self.is_closed = False

    @workflow.run
    async def run(self) -> list[int]:
        await workflow.wait_condition(lambda: self.is_closed)
        return self.coins

    @workflow.signal
    def coin(self, worth: int) -> None:
        self.coins.append(worth)

    @workflow.query
    def total(self) -> int:
        return sum(self.coins)

    @workflow.update
    def close(self, by: str) -> str:
        if by == "nobody":
            raise ApplicationError("somebody has to")
        self.is_closed = True
        return f"closed by {by}"


def written(workflow_id: str, kind: Any, name: str, *arguments: Any, namespace: str = "") -> HandWritten:
    return HandWritten(kind, namespace, workflow_id, name, list(arguments), f"msg_{ULID()}")


def test_a_signal_a_query_and_an_update_reach_a_workflow_of_another_team(temporal: Temporal) -> None:
    async def play() -> dict[str, Any]:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        door = RealTemporal(client)

        async def send(*letter: Any, **more: Any) -> Any:
            try:
                return await door.send(written(handle.id, *letter, **{"namespace": temporal.namespace} | more))
            except OrchestrationError as exc:
                return exc

        told: dict[str, Any] = {}
        async with Worker(client, task_queue=QUEUE, workflows=[Till], workflow_runner=UnsandboxedWorkflowRunner()):
            handle = await client.start_workflow("Till", id=f"till-{ULID()}", task_queue=QUEUE)
            once = written(handle.id, "signal", "coin", 3, namespace=temporal.namespace)
            await door.send(once)
            await door.send(once)  # a relay that died before it had noted it
            told["total"] = await send("query", "total")
            told["unknown"] = await send("query", "nonsense")
            told["no"] = await send("update", "close", "nobody")
            told["no such update"] = await send("update", "nonsense")
            told["elsewhere"] = await send("query", "total", namespace="nowhere")
            told["closed"] = await send("update", "close", "olga")
            assert await handle.result() == [3]
            told["ended"] = await send("signal", "coin", 1)
        handle = await client.start_workflow("Till", id=f"till-{ULID()}", task_queue="nobody works here")
        told["nobody"] = await send("query", "total")
        await handle.terminate()
        return told

    told = go(play())
    assert (told["total"], told["closed"]) == (3, "closed by olga")
    for name in ("unknown", "no", "no such update", "elsewhere"):
        assert isinstance(told[name], TemporalRefused), (name, told[name])
    assert "somebody has to" in str(told["no"]) and "nonsense" in str(told["unknown"])
    assert isinstance(told["ended"], WorkflowGone)
    assert isinstance(told["nobody"], (NotAnswered, TemporalRefused))
