"""The middleware for LangChain agents that run elsewhere, with a model that needs no network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from signalbox_client.langchain import SignalboxApproval
from signalbox_client.testing import FakeSignalbox


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


@pytest.fixture(autouse=True)
def nothing_deleted() -> None:
    deleted.clear()


def told(fake: FakeSignalbox, *, is_async: bool, tool_name: str = "delete_index") -> ToolMessage:
    """Let an agent call the tool once, and return what the model was told."""
    wish = {"name": tool_name, "args": {"name": "orders-2019"}, "id": "call-1", "type": "tool_call"}
    model = Model(messages=iter([AIMessage("", tool_calls=[wish]), AIMessage("That was all.")]))
    middleware = SignalboxApproval(fake.client(), fake.async_client(), tools={"delete_index": "high"}, wait=0)
    agent = create_agent(model, [delete_index, look], middleware=[middleware])
    asked: Any = {"messages": [("user", "go")]}
    config: Any = {"configurable": {"thread_id": "t-1"}}
    result = asyncio.run(agent.ainvoke(asked, config)) if is_async else agent.invoke(asked, config)
    (message,) = [one for one in result["messages"] if isinstance(one, ToolMessage)]
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
    assert told(fake, is_async=is_async).content == "deleted orders-2018"
    for verdict, more, words, status in (
        ("reject", {"note": "keep it"}, "keep it", "error"),
        ("respond", {"answer": "use the archive"}, "use the archive", "success"),
        ("expired", {}, "expired", "error"),
        (None, {}, "Nobody has decided", "error"),
    ):
        fake = FakeSignalbox()
        fake.will(verdict, **more)  # type: ignore[arg-type]  # each pair fits
        message = told(fake, is_async=is_async)
        assert words in str(message.content) and message.status == status
    assert deleted == ["orders-2018"]


def test_a_tool_that_is_not_named_runs_as_ever() -> None:
    fake = FakeSignalbox()
    assert told(fake, is_async=False, tool_name="look").content == "seen orders-2019"
    assert fake.requests == []
