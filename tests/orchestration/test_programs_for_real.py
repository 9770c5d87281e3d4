"""Programs that ask over HTTP, on the real engines: the web server, the relay, a worker process, Temporal, Postgres."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from ulid import ULID

from approvals.models import Approval, AuditEvent
from console import tokens
from console.environment import PROJECT, environment
from console.models import PartHeartbeat
from orchestration import webhook_gateway
from orchestration.models import AnswerDelivery
from orchestration.relay.loop import Relay
from orchestration.temporal_gateway import RealTemporal
from orchestration.threads import in_database
from stack.temporal import Temporal
from tests.orchestration.conftest import go
from tests.orchestration.webhook_receiver import Receiver
from tests.waiting import PATIENCE, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

Ask = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@workflow.defn(name="Cleanup")
class Cleanup:
    """A workflow of somebody else's."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []

    @workflow.run
    async def run(self) -> list[dict[str, Any]]:
        await workflow.execute_activity("ask", start_to_close_timeout=timedelta(seconds=PATIENCE))
        await workflow.wait_condition(lambda: bool(self.answers))
        return self.answers

    @workflow.signal
    def approved(self, answer: dict[str, Any]) -> None:
        self.answers.append(answer)


class Web:
    """The API as the program and as a reviewer call it."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/api/v1/"
        self.program, self.reviewer = _token("robot", "service"), _token("alice", "reviewer")
        self.second = _token("bob", "reviewer")

    async def call(self, token: str, path: str, body: Any = None) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            headers = {"Authorization": f"Bearer {token}"}
            method = "GET" if body is None else "POST"
            told = await client.request(method, path, json=body, headers=headers)
            assert told.status_code in (200, 201), told.text
            answer: dict[str, Any] = told.json()
            return answer

    async def ask(self, deliver_to: dict[str, Any]) -> dict[str, Any]:
        body = {
            "title": "Delete the old index",
            "tool": "delete_index",
            "arguments": {"name": "orders-2019"},
            "external_id": str(ULID()),
            "deliver_to": deliver_to,
        }
        return await self.call(self.program, "approvals", body)

    async def decide(self, approval: dict[str, Any], *, by: str = "", **given: Any) -> None:
        body = {"verdict": "approve", "version": 1, "digest": approval["digest"]} | given
        await self.call(by or self.reviewer, f"approvals/{approval['id']}/decision", body)

    async def receipt(self, approval: dict[str, Any]) -> list[str]:
        told = await self.call(self.program, f"approvals/{approval['id']}")
        return [step["step"] for step in told["receipt"]]


def _token(name: str, role: str) -> str:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name=role)[0])
    return tokens.create_token(owner=user)


class Workers:
    """Worker processes on a task queue of their own."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._running: list[subprocess.Popen[bytes]] = []

    def know(self, name: str, value: str) -> None:
        """Let those that start from now on have this variable."""
        self._variables[name] = value

    async def start(self) -> None:
        """Start one and return once it works."""
        command = [sys.executable, "manage.py", "run_worker"]
        process = await asyncio.to_thread(
            subprocess.Popen, command, cwd=PROJECT, env=self._variables, stderr=subprocess.DEVNULL
        )
        self._running.append(process)
        await until(lambda: PartHeartbeat.objects.filter(instance__endswith=f":{process.pid}").exists())

    def kill(self) -> None:
        while self._running:
            process = self._running.pop()
            process.kill()
            process.wait()


@pytest.fixture
def web(transactional_db: None, live_server: Any) -> Web:
    return Web(live_server.url)


@pytest.fixture
def workers(
    transactional_db: None, temporal: Temporal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workers]:
    queue = f"programs-{str(ULID()).lower()}"
    monkeypatch.setattr(environment(), "temporal_task_queue", queue)
    monkeypatch.setattr(environment(), "webhooks_to_private", True)
    at = connection.settings_dict
    account = f"{at['USER']}:{at['PASSWORD']}@" if at["PASSWORD"] else f"{at['USER']}@"
    found = Workers(
        {
            **{name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")},
            "SIGNALBOX_HOME": str(tmp_path),
            "SIGNALBOX_SECRET_KEY": settings.SECRET_KEY,
            "SIGNALBOX_TASK_QUEUE": queue,
            "SIGNALBOX_WEBHOOKS_TO_PRIVATE": "1",
            "SIGNALBOX_SIGNALS": "*",
            "DATABASE_URL": f"postgresql://{account}{at['HOST']}:{at['PORT']}/{at['NAME']}",
            "TEMPORAL_ADDRESS": temporal.address,
            "TEMPORAL_NAMESPACE": temporal.namespace,
        }
    )
    yield found
    found.kill()


@asynccontextmanager
async def relay(temporal: Temporal) -> AsyncIterator[Client]:
    """Run the relay inside the block; yield a client of the server."""
    client = await Client.connect(temporal.address, namespace=temporal.namespace)
    stop = asyncio.Event()
    running = asyncio.create_task(Relay(RealTemporal(client)).run(stop))
    try:
        yield client
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await running


@asynccontextmanager
async def a_workflow_that_asks(
    web: Web, workers: Workers, temporal: Temporal
) -> AsyncIterator[tuple[Client, WorkflowHandle[Any, Any], dict[str, Any]]]:
    """Run somebody else's workflow, and the relay, inside the block; yield a client, it, and what it has asked."""
    workflow_id = f"cleanup-{str(ULID()).lower()}"
    asked: list[dict[str, Any]] = []

    @activity.defn(name="ask")
    async def ask() -> None:
        asked.append(await web.ask({"temporal": {"workflow_id": workflow_id, "signal": "approved"}}))

    await workers.start()
    async with (
        relay(temporal) as client,
        Worker(
            client,
            task_queue=workflow_id,
            workflows=[Cleanup],
            activities=[ask],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
    ):
        theirs = await client.start_workflow("Cleanup", id=workflow_id, task_queue=workflow_id)
        await until(lambda: bool(asked))
        yield client, theirs, asked[0]


def test_a_workflow_asks_over_http_and_hears_the_decision_though_the_worker_was_killed(
    web: Web, workers: Workers, temporal: Temporal
) -> None:
    async def scene() -> None:
        async with a_workflow_that_asks(web, workers, temporal) as (client, theirs, asked):
            watch = client.get_workflow_handle(asked["run_id"])
            async with asyncio.timeout(PATIENCE):  # the watch has looked: it waits for its ladder's first step
                while await watch.query("waits_until", rpc_timeout=timedelta(seconds=PATIENCE)) is None:
                    pass  # each look is a round trip of its own
            workers.kill()
            await web.decide(asked, verdict="edit", edited_arguments={"name": "orders-2018"}, note="that one")
            changed = await web.call(web.program, f"approvals/{asked['id']}")
            await web.decide(changed, by=web.second, version=2)
            await workers.start()
            async with asyncio.timeout(PATIENCE):
                (answer,) = await theirs.result()
            assert (answer["approval_id"], answer["status"], answer["verdict"]) == (asked["id"], "decided", "edit")
            assert (answer["arguments"], answer["note"]) == ({"name": "orders-2018"}, "that one")
            assert answer["decided_by"] == "bob"
            await until(lambda: AnswerDelivery.objects.filter(pk=asked["id"], state="delivered").exists())
            assert await web.receipt(asked) == ["recorded", "signalled", "resumed"]
            async with asyncio.timeout(PATIENCE):
                assert await watch.result() == "delivered"

    go(scene())


def test_a_signal_that_nobody_has_listed_waits_for_an_admin_and_arrives_once_it_is_confirmed(
    web: Web, workers: Workers, temporal: Temporal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "signals", "")
    workers.know("SIGNALBOX_SIGNALS", "")
    admin = _token("ada", "admin")

    async def signals_in(handle: WorkflowHandle[Any, Any]) -> int:
        events = [one async for one in handle.fetch_history_events(rpc_timeout=timedelta(seconds=PATIENCE))]
        return sum(one.HasField("workflow_execution_signaled_event_attributes") for one in events)

    async def scene() -> None:
        async with a_workflow_that_asks(web, workers, temporal) as (_, theirs, asked):
            await web.decide(asked, verdict="reject", note="keep it")
            await until(lambda: AnswerDelivery.objects.filter(pk=asked["id"], state="held").exists())
            assert await signals_in(theirs) == 0
            (pair,) = (await web.call(admin, "signals"))["items"]
            assert (pair["account"], pair["signal"], pair["state"]) == ("robot", "approved", "waiting")
            for _ in range(2):  # a second click changes nothing
                settled = await web.call(admin, f"signals/{pair['id']}", {"confirmed": True})
                assert (settled["state"], settled["settled_by"]) == ("confirmed", "ada")
            async with asyncio.timeout(PATIENCE):
                (answer,) = await theirs.result()
            assert (answer["approval_id"], answer["verdict"], answer["note"]) == (asked["id"], "reject", "keep it")
            await until(lambda: AnswerDelivery.objects.filter(pk=asked["id"], state="delivered").exists())
            assert await signals_in(theirs) == 1
            assert await web.receipt(asked) == ["recorded", "signalled", "resumed"]

    go(scene())
    kinds = AuditEvent.objects.filter(kind__startswith="signal.").order_by("seq").values_list("kind", flat=True)
    assert list(kinds) == ["signal.asked", "signal.confirmed"]


def example(*asked: str) -> dict[str, Any]:
    """Return what the example of a receiver in the documentation defines, for one who has asked for these."""
    text = (PROJECT / "docs" / "programs.md").read_text()
    (code,) = [one.split("```")[0] for one in text.split("```python\n")[1:] if "def read_answer" in one]
    defined: dict[str, Any] = {}
    exec(compile(code, "docs/programs.md", "exec"), defined)
    defined["SECRET"] = webhook_gateway.secret()
    defined["asked"].update(asked)
    return defined


def test_a_webhook_that_fails_three_times_gets_its_answer_and_the_example_reads_it_once(
    web: Web, workers: Workers, temporal: Temporal
) -> None:
    with Receiver(500, 503, 404) as receiver:

        async def scene() -> dict[str, Any]:
            await workers.start()
            async with relay(temporal):
                approval = await web.ask({"webhook": {"url": f"{receiver.url}/answers"}})
                await web.decide(approval, verdict="reject", note="keep it")
                await until(lambda: AnswerDelivery.objects.filter(pk=approval["id"], state="delivered").exists())
            return approval

        approval = go(scene())
    assert AnswerDelivery.objects.get().attempts == len(receiver.got) == 4
    assert [step.step for step in Approval.objects.get().receipt.order_by("id")][-1] == "resumed"
    program = example(approval["id"])
    read, answers = program["read_answer"], []
    for one in receiver.got:
        answers.append(read(one.headers, one.body))
        program["seen"].add(one.headers["webhook-id"])  # it is dealt with
    assert answers[1:] == [None, None, None]  # it came before
    assert (answers[0]["approval_id"], answers[0]["verdict"], answers[0]["arguments"]) == (
        *(approval["id"], "reject", None),
    )
    first = receiver.got[0]
    for headers, body in (
        (first.headers, first.body + b" "),
        (first.headers | {"webhook-id": "dec_another"}, first.body),
        (first.headers | {"webhook-signature": "v1," + "0" * 44}, first.body),
        (webhook_gateway.signed(first.headers["webhook-id"], 1, first.body), first.body),
    ):
        with pytest.raises(PermissionError):
            read(headers, body)
    with pytest.raises(PermissionError, match="Somebody else"):
        example("apr_another")["read_answer"](receiver.got[3].headers, receiver.got[3].body)


def test_a_request_that_is_taken_back_or_expires_is_answered_too(
    web: Web, workers: Workers, temporal: Temporal
) -> None:
    with Receiver() as receiver:

        async def scene() -> str:
            await workers.start()
            async with relay(temporal):
                approval = await web.ask({"webhook": {"url": receiver.url}})
                await web.call(web.program, f"approvals/{approval['id']}/withdraw", {"reason": "no longer needed"})
                await until(lambda: AnswerDelivery.objects.filter(pk=approval["id"], state="delivered").exists())
            return str(approval["id"])

        asked = go(scene())
    (one,) = receiver.got
    answer = example(asked)["read_answer"](one.headers, one.body)
    assert (answer["status"], answer["verdict"], answer["decision_id"]) == ("withdrawn", None, None)


DELETE = """
deleted = []

@activity.defn
async def delete(arguments: dict) -> None:
    deleted.append(arguments)
"""


@pytest.fixture
def copied(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example of a workflow in the documentation, copied into a module of somebody's own, with their activity."""
    (code,) = [
        block.split("```")[0]
        for block in (PROJECT / "docs" / "programs.md").read_text().split("```python\n")[1:]
        if "@workflow.defn" in block
    ]
    (tmp_path / "copied_cleanup.py").write_text(code + DELETE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("copied_cleanup")
    monkeypatch.setattr(module, "SIGNALBOX", web.url.removesuffix("/api/v1/"))
    monkeypatch.setattr(module, "TOKEN", web.program)
    yield module
    del sys.modules["copied_cleanup"]


@asynccontextmanager
async def running(copied: Any, temporal: Temporal, queue: str) -> AsyncIterator[Client]:
    """Run somebody's own worker with the copied example, in the sandbox, and the relay beside it."""
    async with (
        relay(temporal) as client,
        Worker(client, task_queue=queue, workflows=[copied.Cleanup], activities=[copied.ask, copied.delete]),
    ):
        yield client


def test_the_copied_example_gets_its_answer_and_the_earlier_one_when_it_is_run_again(
    web: Web, workers: Workers, temporal: Temporal, copied: Any
) -> None:
    workflow_id = f"cleanup-{str(ULID()).lower()}"

    async def scene() -> None:
        await workers.start()
        async with running(copied, temporal, workflow_id) as client:
            first = await client.start_workflow("Cleanup", "orders-2019", id=workflow_id, task_queue=workflow_id)
            await until(Approval.objects.exists)
            (found,) = await in_database(lambda: list(Approval.objects.all()))
            asked = await web.call(web.program, f"approvals/{found.pk}")
            await web.decide(asked)
            async with asyncio.timeout(PATIENCE):
                assert await first.result() == "deleted"
                again = await client.start_workflow("Cleanup", "orders-2019", id=workflow_id, task_queue=workflow_id)
                assert await again.result() == "deleted"  # nobody is asked, and nobody waits

    go(scene())
    assert copied.deleted == [{"name": "orders-2019"}] * 2
    assert Approval.objects.count() == 1


def test_a_refusal_ends_the_copied_example_at_once(web: Web, temporal: Temporal, copied: Any) -> None:
    workflow_id = f"cleanup-{str(ULID()).lower()}"

    async def scene() -> None:
        copied.TOKEN = "sb_nobodys"
        async with running(copied, temporal, workflow_id) as client:
            with pytest.raises(WorkflowFailureError) as told:
                async with asyncio.timeout(PATIENCE):
                    await client.execute_workflow("Cleanup", "orders-2019", id=workflow_id, task_queue=workflow_id)
        assert isinstance(told.value.cause, ActivityError)
        refused = told.value.cause.cause
        assert isinstance(refused, ApplicationError) and refused.type == "Refused" and refused.non_retryable

    go(scene())


@pytest.mark.parametrize("ends", ["withdrawn", "refused"])
def test_the_copied_example_that_is_run_again_does_nothing_that_may_not_be_done(
    web: Web, temporal: Temporal, copied: Any, ends: str
) -> None:
    """It was withdrawn, or whoever approved it may decide no longer."""
    workflow_id = f"cleanup-{str(ULID()).lower()}"

    async def scene() -> None:
        async with running(copied, temporal, workflow_id) as client:
            first = await client.start_workflow("Cleanup", "orders-2019", id=workflow_id, task_queue=workflow_id)
            await until(Approval.objects.exists)
            await first.terminate("a test")  # nothing watches the approval here, so nobody delivers its answer
            (found,) = await in_database(lambda: list(Approval.objects.all()))
            if ends == "withdrawn":
                await web.call(web.program, f"approvals/{found.pk}/withdraw", {"reason": "a test"})
            else:
                await web.decide(await web.call(web.program, f"approvals/{found.pk}"))
                await in_database(lambda: User.objects.filter(username="alice").update(is_active=False))
            async with asyncio.timeout(PATIENCE):
                again = await client.start_workflow("Cleanup", "orders-2019", id=workflow_id, task_queue=workflow_id)
                assert await again.result() == ("withdrawn" if ends == "withdrawn" else "decided")

    go(scene())
    assert copied.deleted == []
