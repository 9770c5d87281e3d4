"""Approvals in Temporal workflows: one activity that asks, and a mixin that waits for the signal with the answer.

    with workflow.unsafe.imports_passed_through():
        from signalbox_client.temporal import SignalboxActivities, WaitsForApproval

    @workflow.defn
    class Cleanup(WaitsForApproval):
        @workflow.run
        async def run(self, index: str) -> str:
            answer = await self.approval(
                f"Delete the index {index}", tool="delete_index", arguments={"name": index}, key="delete"
            )
            ...

    Worker(..., workflows=[Cleanup], activities=SignalboxActivities(AsyncSignalbox()).all)

The signal goes to the workflow's id, not to one run of it: a workflow that is run again under its id hears it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from signalbox_client.answers import Answer
    from signalbox_client.client import AsyncSignalbox
    from signalbox_client.errors import Refused

ASK, REPORT = "signalbox_ask", "signalbox_report"
SIGNAL = "signalbox_answer"


@dataclass(frozen=True)
class Question:
    """What the activity asks. `key`: one for each question of a workflow, the same in each run of it; see `ask`."""

    title: str
    tool: str
    arguments: dict[str, Any]
    key: str = ""
    risk: str = "high"
    words: str = ""
    schema: dict[str, Any] | None = None
    verdicts: list[str] = field(default_factory=list)
    audience: list[str] = field(default_factory=list)
    namespace: str = ""  # in which the workflow is signalled


@dataclass(frozen=True)
class AskedFor:
    """The request; `answer` is its body when it was closed already, and then no signal comes."""

    approval_id: str
    url: str
    answer: dict[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """What came of it: see `Signalbox.report`."""

    approval_id: str
    status: str = "done"
    result: Any = None
    error: str = ""


class SignalboxActivities:
    """The activities; register `all` with the worker. What Signalbox refuses is not retried, what it cannot do is."""

    def __init__(self, box: AsyncSignalbox) -> None:
        self._box = box

    @property
    def all(self) -> list[Callable[..., Any]]:
        return [self.ask, self.report]

    @activity.defn(name=ASK)
    async def ask(self, question: Question) -> AskedFor:
        """Ask once. A retry finds the same request, for it is named after the workflow, its run and this activity.

        With a `key` it is named after the workflow and the key: a workflow that is started again under its id finds
        what was asked, and answered, before.
        """
        info = activity.info()
        name = question.key or f"{info.workflow_run_id}/{info.activity_id}"
        to = {"workflow_id": info.workflow_id, "signal": SIGNAL}
        if question.namespace:
            to["namespace"] = question.namespace
        try:
            approval = await self._box.ask(
                question.title,
                tool=question.tool,
                arguments=question.arguments,
                key=f"{info.workflow_id}/{name}",
                risk=question.risk,  # type: ignore[arg-type]  # Signalbox checks it
                words=question.words,
                schema=question.schema,
                verdicts=question.verdicts,
                audience=question.audience,
                deliver_to={"temporal": to},
            )
            closed = None if approval.is_pending else await self._box.answer(approval)
        except Refused as exc:
            raise _refused(exc) from exc
        return AskedFor(approval.id, approval.url, _body_of(closed) if closed else None)

    @activity.defn(name=REPORT)
    async def report(self, report: Report) -> None:
        """Say what came of it. On retry: it was said already, which changes nothing."""
        try:
            await self._box.report(
                report.approval_id,
                report.status,  # type: ignore[arg-type]  # Signalbox checks it
                result=report.result,
                error=report.error,
            )
        except Refused as exc:
            raise _refused(exc) from exc


class WaitsForApproval:
    """A workflow that asks people. It needs no `__init__`, and may have one; the signal may come before it runs."""

    @workflow.signal(name=SIGNAL)
    def signalbox_answer(self, body: dict[str, Any]) -> None:
        """Keep an answer. It may come twice, and be to somebody else's question: only who asked looks for it."""
        self._signalbox_answers().setdefault(str(body.get("approval_id")), body)

    async def approval(
        self,
        title: str,
        *,
        tool: str,
        arguments: Mapping[str, Any],
        key: str = "",
        risk: str = "high",
        words: str = "",
        schema: Mapping[str, Any] | None = None,
        verdicts: Sequence[str] = (),
        audience: Sequence[str] = (),
        namespace: str = "",
        wait: float = math.inf,
    ) -> Answer | None:
        """Ask and wait; None when nobody has answered within `wait` seconds. At once where it was answered before.

        Raises ActivityError when Signalbox refuses to ask, for one because `key` named another question before.
        """
        question = Question(
            title=title,
            tool=tool,
            arguments=dict(arguments),
            key=key,
            risk=risk,
            words=words,
            schema=dict(schema) if schema else None,
            verdicts=list(verdicts),
            audience=list(audience),
            namespace=namespace,
        )
        asked: AskedFor = await workflow.execute_activity(
            ASK,
            question,
            result_type=AskedFor,
            start_to_close_timeout=timedelta(minutes=2),
            retry_policy=_PATIENT,
            summary=title[:200],
        )
        answers = self._signalbox_answers()
        if asked.answer is not None:
            answers.setdefault(asked.approval_id, asked.answer)
        with contextlib.suppress(asyncio.TimeoutError):  # it may have come with the same task: look all the same
            await workflow.wait_condition(
                lambda: asked.approval_id in answers, timeout=None if math.isinf(wait) else timedelta(seconds=wait)
            )
        found = answers.get(asked.approval_id)
        return Answer.read(found) if found is not None else None

    async def report(self, answer: Answer, status: str = "done", *, result: Any = None, error: str = "") -> None:
        """Say what came of what was approved, so that its receipt ends."""
        await workflow.execute_activity(
            REPORT,
            Report(answer.approval_id, status, result, error),
            start_to_close_timeout=timedelta(minutes=2),
            retry_policy=_PATIENT,
        )

    def _signalbox_answers(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.__dict__.setdefault("_signalbox_kept", {})
        return found


_PATIENT = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1))


def _refused(exc: Refused) -> ApplicationError:
    return ApplicationError(str(exc), exc.problem, type="Refused", non_retryable=True)


def _body_of(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__dataclass_fields__}
