"""A middleware for LangChain agents that run elsewhere: it asks Signalbox before a tool is called.

    agent = create_agent(model, tools, middleware=[SignalboxApproval(Signalbox(), tools={"delete_index": "high"})])

The run does not pause, it waits: the tool's call is held until somebody has decided. Where the agent keeps its thread,
a run that is started again finds what was asked, for a question is named after the thread and the tool call. A call
that does not fit the tool is not asked about; the model is told why.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from langchain.agents.middleware import AgentMiddleware
from langchain.tools.tool_node import ToolCallRequest
from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from signalbox_client.answers import Answer, Approval
from signalbox_client.calls import Risk, as_json
from signalbox_client.client import AsyncSignalbox, Signalbox
from signalbox_client.errors import FailedBefore, OutcomeUnknown, Refused, SignalboxError
from signalbox_client.guarding import earlier, outcome_of

logger = logging.getLogger(__name__)
Told = ToolMessage | Command[Any]
GIVEN_UP = "The agent has gone on without it."
#: what the model is told where a tool that was done before had changed the graph's state, which nobody has kept
STATE_CHANGED = "This was done before. It changed the agent's state as well, and that change is not known any more."


class SignalboxApproval(AgentMiddleware):  # type: ignore[misc]  # mypy does not read its base here
    """See the module. `tools`: which ones are asked about, each with its risk; the others run as ever.

    Give a `Signalbox` to an agent that is invoked, an `AsyncSignalbox` to one that is awaited, or both. `wait`:
    seconds until the agent is told that nobody has decided, and goes on without the tool; the request is taken back.
    """

    def __init__(
        self,
        box: Signalbox | None = None,
        async_box: AsyncSignalbox | None = None,
        *,
        tools: Mapping[str, Risk],
        wait: float = math.inf,
    ) -> None:
        super().__init__()
        self._box, self._async_box = box, async_box
        self._risks, self._wait = dict(tools), wait

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Told]) -> Told:
        if request.tool_call["name"] not in self._risks:
            return handler(request)
        assert self._box is not None, "an agent that is invoked needs a Signalbox"
        try:
            approval = self._box.ask(**self._question(request))
        except Refused as exc:
            return _message(request, _slip(exc), is_error=True)
        if (before := _before(request, approval)) is not None:
            return before
        answer = self._box.answer(approval, wait=self._wait) or self._box.give_up(approval, GIVEN_UP)
        if (told := _instead(request, approval, answer)) is not None:
            return told
        assert answer is not None
        try:
            result = handler(_with_arguments(request, answer))
        except GraphBubbleUp:  # the tool waits for somebody itself, and is called again
            raise
        except BaseException as exc:
            with contextlib.suppress(SignalboxError):  # what the tool raised says more
                self._box.report(approval, outcome_of(exc), error=f"{type(exc).__name__}: {exc}")
            raise
        with _told_later(approval):
            self._box.report(approval, *_outcome(result), result=_content(result))
        return _saying_what_changed(result, request, answer)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Told]]
    ) -> Told:
        if request.tool_call["name"] not in self._risks:
            return await handler(request)
        assert self._async_box is not None, "an agent that is awaited needs an AsyncSignalbox"
        try:
            approval = await self._async_box.ask(**self._question(request))
        except Refused as exc:
            return _message(request, _slip(exc), is_error=True)
        if (before := _before(request, approval)) is not None:
            return before
        answer = await self._async_box.answer(approval, wait=self._wait)
        answer = answer or await self._async_box.give_up(approval, GIVEN_UP)
        if (told := _instead(request, approval, answer)) is not None:
            return told
        assert answer is not None
        try:
            result = await handler(_with_arguments(request, answer))
        except GraphBubbleUp:
            raise
        except BaseException as exc:
            with contextlib.suppress(SignalboxError):
                await self._async_box.report(approval, outcome_of(exc), error=f"{type(exc).__name__}: {exc}")
            raise
        with _told_later(approval):
            await self._async_box.report(approval, *_outcome(result), result=_content(result))
        return _saying_what_changed(result, request, answer)

    def _question(self, request: ToolCallRequest) -> dict[str, Any]:
        call = request.tool_call
        config = getattr(request.runtime, "config", None) or {}
        thread = config.get("configurable", {}).get("thread_id", "")
        model: Any = request.tool.tool_call_schema if request.tool is not None else None
        schema = model.model_json_schema() if hasattr(model, "model_json_schema") else model
        return {
            "title": f"{call['name']}: {_first_line(request)}"[:500],
            "tool": call["name"],
            "arguments": call["args"],
            # Ids of calls need not be unique but in their thread: without either, each call is a question of its own.
            "key": f"{thread}/{call['id']}" if thread and call["id"] else f"{call['name']}/{uuid.uuid4()}",
            "risk": self._risks[call["name"]],
            "schema": schema,
            "reports": True,
        }


def _first_line(request: ToolCallRequest) -> str:
    description = request.tool.description if request.tool is not None else ""
    return description.strip().partition("\n")[0] or "call this tool"


def _slip(exc: Refused) -> str:
    """Return what the model is told of a call that nobody could be asked about; it may call again, in another way.

    Raises the refusal itself where it is not about the call's arguments: only who wrote the agent can mend that.
    """
    if exc.status != 422 or not all(one["path"].partition(".")[0] in ("", "arguments") for one in exc.errors):
        raise exc
    faults = "; ".join(": ".join(filter(None, (one["path"], one["message"]))) for one in exc.errors)
    return f"Nobody was asked, and it was not done: {faults or exc}"


def _before(request: ToolCallRequest, approval: Approval) -> ToolMessage | None:
    """Return what the model is told of a call that was tried before, None where it was not."""
    try:
        known = earlier(approval)
    except (OutcomeUnknown, FailedBefore) as exc:
        return _message(request, f"It is not done again: {exc}", is_error=True)
    return None if known is None else _message(request, known.value)


@contextlib.contextmanager
def _told_later(approval: Approval) -> Iterator[None]:
    """Let the agent go on with what the tool returned, also where Signalbox cannot be told: the tool has run."""
    try:
        yield
    except SignalboxError as exc:
        logger.error("what came of %s could not be reported: %s", approval.id, exc)


def _saying_what_changed(result: Told, request: ToolCallRequest, answer: Answer) -> Told:
    """Return the tool's message, with the arguments before it where people have changed them."""
    if answer.arguments == request.tool_call["args"] or not isinstance(result, ToolMessage):
        return result
    if not isinstance(result.content, str):
        return result
    used = json.dumps(answer.arguments, ensure_ascii=False)
    return result.model_copy(update={"content": f"It was done with other arguments: {used}\n{result.content}"})


def _with_arguments(request: ToolCallRequest, answer: Answer) -> ToolCallRequest:
    return request.override(tool_call={**request.tool_call, "args": answer.arguments or {}})


def _instead(request: ToolCallRequest, approval: Approval, answer: Answer | None) -> ToolMessage | None:
    """Return what the model is told in the tool's place, None when the tool is to run."""
    if answer is None:
        return _message(request, "Nobody has decided in time whether this may be done, so it was not.", is_error=True)
    if answer.verdict == "respond":
        return _message(request, answer.answer)
    if not answer.approved:
        why = answer.note or f"the request is {answer.status}"
        return _message(request, f"This was not approved, and not done: {why}", is_error=True)
    return None


def _message(request: ToolCallRequest, content: Any, *, is_error: bool = False) -> ToolMessage:
    call = request.tool_call
    status = "error" if is_error else "success"
    text = content if isinstance(content, str) else str(content)
    return ToolMessage(content=text, name=call["name"], tool_call_id=call["id"] or "", status=status)


def _outcome(result: Told) -> tuple[Any]:
    is_error = isinstance(result, ToolMessage) and result.status == "error"
    return ("unknown",) if is_error else ("done",)


def _content(result: Told) -> Any:
    return as_json(result.content) if isinstance(result, ToolMessage) else STATE_CHANGED
