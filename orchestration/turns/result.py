"""What a run came to, from the state that its graph ended with."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.graph import END

from console.text.plain_json import plain


def result_of(graph: Any, values: dict[str, Any]) -> Any:
    """Return the run's result as JSON: `result` of the state, else what the graph's output schema names.

    Of an `@entrypoint`, the dict that its function returned.

    Of a list of messages, the text of the last one. None where the state holds nothing of it.
    """
    if "result" in values:
        return plain(values["result"])
    channels = graph.output_channels
    if channels == END:
        return plain(values) or None
    names = [channels] if isinstance(channels, str) else list(channels)
    found = {name: _told(values[name]) for name in names if values.get(name) is not None}
    return found or None


def _told(value: Any) -> Any:
    is_talk = isinstance(value, list) and value and all(isinstance(one, BaseMessage) for one in value)
    return str(value[-1].text) if is_talk else plain(value)
