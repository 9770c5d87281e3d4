"""Doubles of what lies outside, each keeping what it was asked. They take no shortcuts that the real thing lacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr

from orchestration.agents.runtime import Outcome, Passage, Passages, ToolFailed
from orchestration.contracts import HandWritten, ProgramSignal, StartRun, StartWatch
from orchestration.errors import TemporalAway, TemporalRefused, WorkflowGone
from orchestration.temporal_protocol import Described, HistoryPage, Pending, WorkflowSeen, WorkflowTaskFault


class FakeTemporal:
    """A Temporal in memory, as the relay sees it; `is_away` makes every call fail as an absent server does."""

    def __init__(self) -> None:
        self.is_away = False
        self.started: dict[str, StartRun] = {}
        self.ended: set[str] = set()
        self.ends: dict[str, WorkflowSeen] = {}  # how workflows have ended, where not by `end`
        self.moves: dict[str, list[datetime]] = {}  # when workflows have moved
        self.pending: tuple[Pending, ...] = ()  # what `describe` tells of every workflow
        self.task_faults: dict[str, WorkflowTaskFault] = {}  # by run: its workflow task fails, in the third attempt
        self.namespace_id = "namespace-1"
        self.signals: list[tuple[str, str, str]] = []  # run, approval, decision
        self.watches: dict[str, StartWatch] = {}
        self.program_signals: list[ProgramSignal] = []
        self.sent: list[HandWritten] = []  # by operators
        self.answer: Any = None  # to every query and update
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}  # by run id
        self.heard = asyncio.Event()  # set by every call
        self.gate: asyncio.Event | None = None  # holds calls until it is set

    async def start_run(self, start: StartRun) -> str:
        await self._called(f"start {start.run_id}", start.run_id)
        if start.run_id in self.ended:
            return ""
        self.started.setdefault(start.run_id, start)
        return f"temporal-{start.run_id}"

    async def signal_decided(self, run_id: str, approval_id: str, decision_id: str) -> None:
        await self._called(f"signal {run_id} {decision_id}", run_id)
        if run_id not in self.started or run_id in self.ended:
            raise WorkflowGone(f"no workflow {run_id}")
        if (run_id, approval_id, decision_id) not in self.signals:
            self.signals.append((run_id, approval_id, decision_id))

    async def start_watch(self, workflow_id: str, start: StartWatch, again: bool) -> None:
        await self._called(f"watch {workflow_id}{' again' if again else ''}", workflow_id)
        self.watches[workflow_id] = start
        self.started.setdefault(workflow_id, StartRun(workflow_id, "watch"))
        self.ended.discard(workflow_id)
        self.ends.pop(workflow_id, None)

    async def feed_batch(self, batch_id: str) -> None:
        await self._called(f"feed {batch_id}", batch_id)
        self.started.setdefault(batch_id, StartRun(batch_id, "batch"))
        self.ended.discard(batch_id)

    async def signal_program(self, signal: ProgramSignal) -> None:
        await self._called(f"program {signal.workflow_id} {signal.request_id}", signal.workflow_id)
        if signal.workflow_id not in self.started or signal.workflow_id in self.ended:
            raise WorkflowGone(f"no workflow {signal.workflow_id}")
        if signal.request_id not in {one.request_id for one in self.program_signals}:
            self.program_signals.append(signal)

    async def look(self, workflow_id: str) -> WorkflowSeen:
        await self._called(f"look {workflow_id}", workflow_id)
        if workflow_id not in self.started:
            raise WorkflowGone(f"no workflow {workflow_id}")
        return self.ends.get(workflow_id) or WorkflowSeen("terminated" if workflow_id in self.ended else "running")

    async def describe(self, workflow_id: str, temporal_run_id: str = "") -> Described:
        await self._called(f"describe {workflow_id}", workflow_id)
        events = self._events(workflow_id, temporal_run_id)
        closed_at = datetime.now(UTC) if workflow_id in self.ended else None
        seen = await self.look(workflow_id)
        attempt = 3 if workflow_id in self.task_faults else 0
        now = datetime.now(UTC)
        return Described(f"temporal-{workflow_id}", seen, now, closed_at, len(events), self.pending, attempt, now)

    async def task_fault(self, workflow_id: str, temporal_run_id: str = "") -> WorkflowTaskFault | None:
        await self._called(f"task fault {workflow_id}", workflow_id)
        return self.task_faults.get(workflow_id)

    async def history(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        await self._called(f"history {workflow_id}", workflow_id)
        events = self._events(workflow_id, temporal_run_id)
        if not (after == "" or (after.isdecimal() and 0 < int(after) < len(events))):
            raise TemporalRefused("There is no such page of the history.")
        begin = int(after or 0)
        end = begin + most
        return HistoryPage(events[begin:end], str(end) if end < len(events) else "")

    async def history_back(
        self, workflow_id: str, temporal_run_id: str = "", *, after: str = "", most: int = 100
    ) -> HistoryPage:
        await self._called(f"history back {workflow_id}", workflow_id)
        events = self._events(workflow_id, temporal_run_id)[::-1]
        if not (after == "" or (after.isdecimal() and 0 < int(after) < len(events))):
            raise TemporalRefused("There is no such page of the history.")
        end = int(after or 0) + most
        return HistoryPage(events[int(after or 0) : end], str(end) if end < len(events) else "")

    def _events(self, workflow_id: str, temporal_run_id: str) -> list[dict[str, Any]]:
        """Return what happened to the workflow here, as Temporal tells it."""
        if workflow_id not in self.started or temporal_run_id not in ("", f"temporal-{workflow_id}"):
            raise WorkflowGone(f"no workflow {workflow_id}")
        heard = [signal for signal in self.signals if signal[0] == workflow_id]
        names = ["STARTED", *("SIGNALED" for _ in heard), *(["TERMINATED"] if workflow_id in self.ended else [])]
        attributes: dict[str, dict[str, Any]] = {"STARTED": {"workflowExecutionStartedEventAttributes": {}}}
        return [
            {
                "eventId": str(number),
                "eventTime": (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number)).isoformat()[:-6] + "Z",
                "eventType": f"EVENT_TYPE_WORKFLOW_EXECUTION_{name}",
            }
            | attributes.get(name, {})
            for number, name in enumerate(names, start=1)
        ]

    async def moved_between(self, workflow_id: str, begin: datetime, end: datetime) -> bool:
        await self._called(f"moved {workflow_id}", workflow_id)
        if workflow_id not in self.started:
            raise WorkflowGone(f"no workflow {workflow_id}")
        return any(begin < at <= end for at in self.moves.get(workflow_id, []))

    async def cancel(self, workflow_id: str, reason: str, request_id: str, era: int | None) -> None:
        await self._called(f"cancel {workflow_id} {reason}", workflow_id)
        if not self._is_of(era, workflow_id):  # the server takes it for one that has ended
            raise WorkflowGone(f"no workflow {workflow_id}")

    async def terminate(self, workflow_id: str, reason: str, era: int | None) -> None:
        await self._called(f"terminate {workflow_id} {reason}", workflow_id)
        if not self._is_of(era, workflow_id) or workflow_id in self.ended:
            raise WorkflowGone(f"no workflow {workflow_id}")
        self.ended.add(workflow_id)
        self.ends[workflow_id] = WorkflowSeen("terminated", reason)

    def _is_of(self, era: int | None, workflow_id: str) -> bool:
        start = self.started.get(workflow_id)
        return start is not None and era in (None, getattr(start, "era", 0))

    async def restart_run(self, start: StartRun, reason: str) -> str:
        await self._called(f"restart {start.run_id} {start.era} {reason}", start.run_id)
        self.started[start.run_id] = start
        self.ended.discard(start.run_id)
        self.ends.pop(start.run_id, None)
        return f"temporal-{start.run_id}-{start.era}"

    async def resume(self, run_id: str, request_id: str) -> None:
        await self._called(f"resume {run_id}", run_id)
        self._check_alive(run_id)

    async def hurry(self, run_id: str, activity: str) -> None:
        await self._called(f"hurry {run_id} {activity}", run_id)
        self._check_alive(run_id)

    async def fail_activity(self, run_id: str, activity: str, kind: str, message: str, era: int | None) -> None:
        await self._called(f"fail {run_id} {activity} {kind} {message}", run_id)
        if not self._is_of(era, run_id):
            raise WorkflowGone(f"no workflow {run_id} of era {era}")
        self._check_alive(run_id)

    def _check_alive(self, run_id: str) -> None:
        if run_id not in self.started or run_id in self.ended:
            raise WorkflowGone(f"no workflow {run_id}")

    async def send(self, written: HandWritten) -> Any:
        await self._called(f"{written.kind} {written.workflow_id} {written.name}", written.workflow_id)
        if written.workflow_id not in self.started or written.workflow_id in self.ended:
            raise WorkflowGone(f"no workflow {written.workflow_id}")
        if written.message_id not in {one.message_id for one in self.sent}:
            self.sent.append(written)
        return None if written.kind == "signal" else self.answer

    async def home(self) -> str:
        if self.is_away:
            raise TemporalAway("Temporal cannot be reached: the test says so")
        return self.namespace_id

    async def is_there(self) -> bool:
        self.calls.append("knock")
        return not self.is_away

    async def end(self, run_id: str) -> None:
        self.ended.add(run_id)

    async def _called(self, call: str, run_id: str) -> None:
        self.calls.append(call)
        self.heard.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise TemporalAway("Temporal cannot be reached: the test says so")
        if run_id in self.errors:
            raise self.errors[run_id]


class FakeShop:
    """The shop's HTTP API in memory. `lose_answers`: this many refunds happen without an answer."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.refunds: dict[str, dict[str, Any]] = {}  # by idempotency key
        self.requests: list[str] = []
        self.lose_answers = 0
        self.refuse = ""
        self.add_order("8801")

    def add_order(self, order_id: str, **changes: Any) -> None:
        self.orders[order_id] = {
            "id": order_id,
            "customer": "Mara Lind",
            "email": "mara@customers.example",
            "amount": "100.00",
            "currency": "EUR",
            "status": "delivered",
        } | changes

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.raw_path.decode()}")
        if request.method == "POST" and request.url.path == "/refunds":
            return self._refund(request)
        if request.url.path == "/refunds":
            wanted = request.url.params["order_id"]
            return httpx.Response(200, json={"items": [r for r in self.refunds.values() if r["order_id"] == wanted]})
        order = self.orders.get(request.url.path.removeprefix("/orders/"))
        return httpx.Response(200, json=order) if order else httpx.Response(404, json={"error": "no such order"})

    def _refund(self, request: httpx.Request) -> httpx.Response:
        if self.refuse:
            return httpx.Response(422, json={"error": self.refuse})
        key, body = request.headers["Idempotency-Key"], json.loads(request.content)
        self.refunds.setdefault(key, {"id": f"re-{len(self.refunds) + 1}", **body})
        if self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadError("the connection broke", request=request)
        return httpx.Response(200, json=self.refunds[key])

    def paid(self, order_id: str = "8801") -> Decimal:
        return sum((Decimal(r["amount"]) for r in self.refunds.values() if r["order_id"] == order_id), Decimal(0))


class FakeWorld:
    """The outside for tools: a shop and a mail system. `mail_error` is raised after the mail has left."""

    def __init__(self, shop: FakeShop | None = None) -> None:
        self.shop = shop or FakeShop()
        self.mails: list[tuple[str, str, str]] = []
        self.mail_error: Exception | None = None
        self._client = httpx.AsyncClient(
            transport=httpx.MockTransport(self.shop.answer), base_url="http://shop.example"
        )

    def http(self, service: str) -> httpx.AsyncClient:
        if service != "shop":
            raise ToolFailed(f"no {service}")
        return self._client

    async def send_mail(self, to: str, subject: str, body: str) -> None:
        self.mails.append((to, subject, body))
        if self.mail_error is not None:
            raise self.mail_error

    async def close(self) -> None:
        await self._client.aclose()


def passage(text: str, *, status: str = "current", title: str = "Damaged goods") -> Passage:
    return Passage(
        document="damaged.md", title=title, heading="What we pay", text=text, effective="2026-01-01", status=status
    )


class FakeDatasets:
    """One published version of the handbook; `found` answers the searches one after the other, the last for ever."""

    def __init__(self, *found: list[Passage], version: int = 3) -> None:
        self.found = list(found) or [[passage("Refund share: 50 %")]]
        self.version = version
        self.queries: list[str] = []

    async def search(self, dataset: str, query: str, limit: int) -> Passages:
        self.queries.append(query)
        found = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        return Passages(dataset=dataset, version=self.version, passages=found[:limit])


class FakeEffects:
    """A ledger that does nothing but keep what it is asked; outcomes are given one by one, then `done`."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.performed: list[tuple[str, str]] = []  # approval, digest
        self.settled: list[tuple[str, str]] = []  # effect's approval, question

    async def perform(self, approval_id: str, digest: str) -> Outcome:
        self.performed.append((approval_id, digest))
        return self._next()

    async def settle(self, approval_id: str, question_id: str) -> Outcome:
        self.settled.append((approval_id, question_id))
        return self._next()

    def _next(self) -> Outcome:
        return self.outcomes.pop(0) if self.outcomes else Outcome(status="done", result={"amount": "50.00"}, reason="")


Reply = AIMessage | Callable[[list[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """A chat model that says its lines in order; `before` runs, awaited, ahead of each."""

    _lines: list[Reply] = PrivateAttr(default_factory=list)
    _asked: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _offered: list[str] = PrivateAttr(default_factory=list)
    _before: Any = PrivateAttr(default=None)  # an async function without arguments

    @classmethod
    def of(cls, *lines: Reply) -> ScriptedModel:
        model = cls()
        model._lines = list(lines)
        return model

    @property
    def asked(self) -> list[list[BaseMessage]]:
        """Each call's messages."""
        return self._asked

    @property
    def offered(self) -> list[str]:
        """The names of the tools it was bound to."""
        return self._offered

    def before(self, hook: Any) -> ScriptedModel:
        self._before = hook
        return self

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        self._offered = [getattr(tool, "name", None) or tool.__name__ for tool in tools]
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise AssertionError("the graph asks asynchronously")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self._asked.append(list(messages))
        if self._before is not None:
            await self._before()
        line = self._lines.pop(0)
        message = line(messages) if callable(line) else line
        return ChatResult(generations=[ChatGeneration(message=message)])


def calls(*tools: tuple[str, dict[str, Any]], words: str = "I call a tool.", tag: str = "") -> AIMessage:
    """Return a model's message that calls the tools with these arguments."""
    ids = [f"call-{tag or name}-{number}" for number, (name, _) in enumerate(tools, start=1)]
    listed = [
        {"name": name, "args": arguments, "id": call_id, "type": "tool_call"}
        for (name, arguments), call_id in zip(tools, ids, strict=True)
    ]
    return AIMessage(
        words, tool_calls=listed, usage_metadata={"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    )
