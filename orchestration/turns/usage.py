"""What a run's models have used, and its budget."""

from __future__ import annotations

from threading import Lock
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from orchestration.agents.models import model_name
from orchestration.errors import BudgetUsedUp


class Spending(BaseCallbackHandler):
    """Counts what each model says that it has used, wherever in the graph it is called, and stops the next call.

    A model is not called once the budget is used up; a call under way is never cut off, so the last one may go beyond.
    Told to LangChain as a callback. Not an async one: an error of those is passed over where a model is called by
    `invoke`. Nodes may run in threads.
    """

    raise_error = True

    def __init__(self, before: dict[str, Any], budget: int | None) -> None:
        """`before`: the run's usage until now. `budget`: tokens of the whole run, `None` for any number."""
        self._tokens = {name: int(before.get(name) or 0) for name in ("input_tokens", "output_tokens")}
        self._budget = budget
        self._lock = Lock()

    @property
    def ignore_chain(self) -> bool:
        """Nodes are none of its business: each word of one would be a walk to a thread."""
        return True

    def usage(self, state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {"model", "input_tokens", "output_tokens"} of the whole run.

        `state`: the graph's. It knows what was used by an attempt that was killed before it could tell.
        """
        kept = usage_of(state or {})
        with self._lock:
            most = {name: max(tokens, kept[name]) for name, tokens in self._tokens.items()}
            return {**kept, **most}

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._begin()

    def on_llm_start(self, serialized: Any, prompts: Any, **kwargs: Any) -> None:
        self._begin()

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        said = [getattr(one, "message", None) for generation in response.generations for one in generation]
        with self._lock:
            for message in said:
                spent = getattr(message, "usage_metadata", None) or {}
                for name in self._tokens:
                    self._tokens[name] += int(spent.get(name) or 0)

    def _begin(self) -> None:
        with self._lock:
            used = sum(self._tokens.values())
        if self._budget is not None and used >= self._budget:
            raise BudgetUsedUp(
                f"The run's budget is used up: its models have used {used:,} tokens, and it may use {self._budget:,}. "
                "No model is called any more. `tokens_per_run` of the agent's registration is the budget."
            )


def usage_of(state: dict[str, Any]) -> dict[str, Any]:
    """Add up what the model's messages say they cost; kept in state, so a crash loses none of it."""
    spent = [getattr(message, "usage_metadata", None) or {} for message in state.get("messages", [])]
    return {
        "model": model_name(),
        "input_tokens": sum(one.get("input_tokens", 0) for one in spent),
        "output_tokens": sum(one.get("output_tokens", 0) for one in spent),
    }
