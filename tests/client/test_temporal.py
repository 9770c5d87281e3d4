"""The client's activity and mixin in a workflow of somebody else's, on the real engines and the plain Temporal SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from signalbox_client.temporal import SignalboxActivities
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker
from ulid import ULID

from approvals.models import Approval
from orchestration.models import ReportedOutcome
from signalbox_client import AsyncSignalbox
from stack.temporal import Temporal
from tests.client.temporal_program import Cleanup
from tests.orchestration.conftest import go
from tests.orchestration.conftest import temporal as temporal
from tests.orchestration.test_programs_for_real import Web, Workers, relay
from tests.orchestration.test_programs_for_real import web as web
from tests.orchestration.test_programs_for_real import workers as workers
from tests.waiting import PATIENCE, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]


@asynccontextmanager
async def running(web: Web, temporal: Temporal, queue: str) -> AsyncIterator[Client]:
    """Run somebody's own worker, in the sandbox, and the relay beside it."""
    async with (
        AsyncSignalbox(web.url, web.program) as box,
        relay(temporal) as client,
        Worker(client, task_queue=queue, workflows=[Cleanup], activities=SignalboxActivities(box).all),
    ):
        yield client


async def run(client: Client, queue: str, *args: str) -> Any:
    return await client.start_workflow("CleanupOfTheirs", args=args, id=queue, task_queue=queue)


async def decide(web: Web) -> None:
    await until(lambda: Approval.objects.filter(status="pending").exists())
    approval = await asyncio.to_thread(lambda: Approval.objects.filter(status="pending").values("pk", "digest").get())
    await web.decide({"id": approval["pk"], "digest": approval["digest"]})


async def ended(handle: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await handle.result()


def test_run_again_under_its_id_it_gets_the_earlier_answer_and_without_a_key_it_asks_anew(
    web: Web, workers: Workers, temporal: Temporal
) -> None:
    queue = f"theirs-{str(ULID()).lower()}"

    async def scene() -> None:
        await workers.start()
        async with running(web, temporal, queue) as client:
            first = await run(client, queue, "orders-2019", "delete")
            await decide(web)
            told = await ended(first)
            assert (told["verdict"], told["arguments"]) == ("approve", {"name": "orders-2019"})
            again = await run(client, queue, "orders-2019", "delete")
            assert await ended(again) == told  # nobody is asked, no signal comes
            await until(lambda: ReportedOutcome.objects.filter(pk=told["approval_id"], status="done").exists())
            anew = await run(client, queue, "orders-2019", "")
            await decide(web)
            assert (await ended(anew))["approval_id"] != told["approval_id"]

    go(scene())
    assert Approval.objects.count() == 2


def test_another_question_under_the_same_key_ends_the_activity(web: Web, workers: Workers, temporal: Temporal) -> None:
    queue = f"theirs-{str(ULID()).lower()}"

    async def scene() -> None:
        await workers.start()
        async with running(web, temporal, queue) as client:
            first = await run(client, queue, "orders-2019", "delete")
            await decide(web)
            await ended(first)
            other = await run(client, queue, "orders-2020", "delete")
            with pytest.raises(WorkflowFailureError) as told:
                await ended(other)
        activity_error = told.value.cause
        assert isinstance(activity_error, ActivityError)
        refused = activity_error.cause
        assert isinstance(refused, ApplicationError) and refused.type == "Refused" and refused.non_retryable
        assert "External id used before" in str(refused)

    go(scene())
