"""The middleware for LangChain agents that run elsewhere, with a model that needs no network."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

import httpx
import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.errors import GraphInterrupt
from langgraph.types import Command
from signalbox_client.langchain import STATE_CHANGED, SignalboxApproval
from signalbox_client.testing import FakeSignalbox

from signalbox_client import AsyncSignalbox, Refused, Signalbox, calls


class Model(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


deleted: list[str] = []


@tool
def delete_index(name: str) -> str:
    """Delete a search index."""
    deleted.append(name)
    return f"deleted {name}"


@tool
def look(name: str) -> str:
    """Look at a search index."""
    return f"seen {name}"


@tool
def ask_first(name: str) -> str:
    """Ask somebody itself, as a tool that interrupts does."""
    raise GraphInterrupt(())


@tool
def note_it(name: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Change the agent's state."""
    deleted.append(name)
    return Command(update={"messages": [ToolMessage("noted", tool_call_id=tool_call_id)]})


@pytest.fixture(autouse=True)
def nothing_deleted() -> None:
    deleted.clear()


def ran(fake: FakeSignalbox, *, is_async: bool, tool_name: str = "delete_index", thread: str = "t-1") -> Any:
    """Let an agent call the tool once, and return its state."""
    wish = {"name": tool_name, "args": {"name": "orders-2019"}, "id": "call-1", "type": "tool_call"}
    model = Model(messages=iter([AIMessage("", tool_calls=[wish]), AIMessage("That was all.")]))
    risks: Any = dict.fromkeys(("delete_index", "ask_first", "note_it"), "high")
    middleware = SignalboxApproval(fake.client(), fake.async_client(), tools=risks, wait=0)
    agent = create_agent(model, [delete_index, look, ask_first, note_it], middleware=[middleware])
    asked: Any = {"messages": [("user", "go")]}
    config: Any = {"configurable": {"thread_id": thread} if thread else {}}
    return asyncio.run(agent.ainvoke(asked, config)) if is_async else agent.invoke(asked, config)


def told(fake: FakeSignalbox, **given: Any) -> ToolMessage:
    """Let an agent call the tool once, and return what the model was told."""
    (message,) = [one for one in ran(fake, **given)["messages"] if isinstance(one, ToolMessage)]
    return message


@pytest.mark.parametrize("is_async", [False, True])
def test_each_verdict_and_what_the_model_is_told(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    assert told(fake, is_async=is_async).content == "deleted orders-2019"
    assert fake.requests[0]["external_id"] == "t-1/call-1"
    assert fake.requests[0]["arguments_schema"]["properties"]["name"]["type"] == "string"
    assert fake.outcomes["t-1/call-1"]["result"] == "deleted orders-2019"
    assert told(fake, is_async=is_async).content == "deleted orders-2019"  # started again: it was done before
    assert deleted == ["orders-2019"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_change_a_rejection_and_silence(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("edit", arguments={"name": "orders-2018"})
    assert str(told(fake, is_async=is_async).content).endswith("deleted orders-2018")
    for verdict, more, words, status in (
        ("reject", {"note": "keep it"}, "keep it", "error"),
        ("respond", {"answer": "use the archive"}, "use the archive", "success"),
        ("expired", {}, "expired", "error"),
        (None, {}, "Nobody has decided", "error"),
    ):
        fake = FakeSignalbox()
        fake.will(verdict, **more)  # type: ignore[arg-type]  # each pair fits
        message = told(fake, is_async=is_async)
        assert verdict is not None or fake._approvals["apr_1"]["status"] == "withdrawn", "nobody would do it any more"
        assert words in str(message.content) and message.status == status
    assert deleted == ["orders-2018"]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_model_is_told_with_which_arguments_it_was_done(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("edit", arguments={"name": "orders-2018"})
    message = told(fake, is_async=is_async)
    assert deleted == ["orders-2018"]
    assert message.content == 'It was done with other arguments: {"name": "orders-2018"}\ndeleted orders-2018'


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("status", "words"), [("unknown", "not known"), ("failed", "failed")])
def test_the_model_is_told_of_a_call_that_was_tried_before(status: str, words: str, is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    assert told(fake, is_async=is_async).status == "success"
    fake._approvals["apr_1"]["executed"]["status"] = status  # as it would stand, had the tool raised
    message = told(fake, is_async=is_async)
    assert message.status == "error" and words in message.content and deleted == ["orders-2019"]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_agent_goes_on_where_what_came_of_it_cannot_be_told(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, usual = FakeSignalbox(), calls.report
    fake.will("approve")
    monkeypatch.setattr(calls, "report", lambda *given: replace(usual(*given), path="approvals/apr_nobody/outcome"))
    assert told(fake, is_async=is_async).content == "deleted orders-2019" and deleted == ["orders-2019"]


def test_a_tool_that_is_not_named_runs_as_ever() -> None:
    fake = FakeSignalbox()
    assert told(fake, is_async=False, tool_name="look").content == "seen orders-2019"
    assert fake.requests == []


@pytest.mark.parametrize("is_async", [False, True])
def test_without_a_thread_another_conversation_is_asked_about_anew(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    for _ in range(2):
        assert told(fake, is_async=is_async, thread="").content == "deleted orders-2019"
    assert len(deleted) == len({one["external_id"] for one in fake.requests}) == 2


class Refusing(FakeSignalbox):
    """A Signalbox that takes no request."""

    def __init__(self, status: int, errors: list[dict[str, str]]) -> None:
        super().__init__()
        problem = {"title": "No", "detail": "Not like this.", "errors": errors}
        self._said = httpx.MockTransport(lambda request: httpx.Response(status, json=problem))

    def client(self) -> Signalbox:
        return Signalbox("http://s.test", "t", transport=self._said)

    def async_client(self) -> AsyncSignalbox:
        return AsyncSignalbox("http://s.test", "t", transport=self._said)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("errors", "words"),
    [([{"path": "arguments.name", "message": "It must be a text."}], "arguments.name: It must be"), ([], "Not like")],
)
def test_the_model_is_told_of_a_call_that_does_not_fit(errors: Any, words: str, is_async: bool) -> None:
    message = told(Refusing(422, errors), is_async=is_async)
    assert words in str(message.content) and message.status == "error"
    assert deleted == []


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("status", "errors"), [(403, []), (422, [{"path": "risk", "message": "It must be low, medium or high."}])]
)
def test_what_the_model_cannot_mend_ends_the_run(status: int, errors: Any, is_async: bool) -> None:
    with pytest.raises(Refused, match=str(status)):
        ran(Refusing(status, errors), is_async=is_async)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_waits_for_somebody_itself_has_come_to_no_end(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    for _ in range(2):
        ran(fake, is_async=is_async, tool_name="ask_first")
    assert fake.outcomes == {}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_changes_the_state_is_done_once_and_says_so_the_next_time(is_async: bool) -> None:
    fake = FakeSignalbox()
    fake.will("approve")
    assert told(fake, is_async=is_async, tool_name="note_it").content == "noted"
    assert told(fake, is_async=is_async, tool_name="note_it").content == STATE_CHANGED
    assert len(deleted) == 1
