"""A stand-in for a language model: it looks the question up, and quotes what it found. No language model is used."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

NOTICE = "(Put together by rules from the handbook; no language model was used.)"


class OfflineResearcher(BaseChatModel):
    """Deterministic: the same conversation gives the same line."""

    @property
    def _llm_type(self) -> str:
        return "offline researcher"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        found = [message.text for message in messages if isinstance(message, ToolMessage)]
        question = next((message.text for message in messages if isinstance(message, HumanMessage)), "")
        if found:
            line = AIMessage(f"{question}\n\n{found[-1]}\n\n{NOTICE}")
        else:
            call = {"name": "search_handbook", "args": {"query": question}, "id": "look-up"}
            line = AIMessage("I look it up.", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=line)])

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self
