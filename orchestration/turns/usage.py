"""What a run's models have used and what that costs, and its budgets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from orchestration import prices
from orchestration.agents.models import model_name
from orchestration.errors import BudgetUsedUp, DayBudgetUsedUp
from orchestration.prices import Tokens


@dataclass(frozen=True)
class DayBudget:
    """What the models of all runs of one agent may use today, and have used when the turn began."""

    used: int
    most: int


class Spending(BaseCallbackHandler):
    """Counts what each model says that it has used, wherever in the graph it is called, and stops the next call.

    A model is not called once a budget is used up; a call under way is never cut off, so the last one may go beyond.
    Told to LangChain as a callback. Not an async one: an error of those is passed over where a model is called by
    `invoke`. Nodes may run in threads.
    """

    raise_error = True

    def __init__(
        self, before: dict[str, Any], budget: int | None, day: DayBudget | None = None, model: str = ""
    ) -> None:
        """`before`: the run's usage until now. `budget`: tokens of the whole run, `None` for any number.

        `model`: the name to show where a call does not say which model it is of.
        """
        self._before = Tokens(int(before.get("input_tokens") or 0), int(before.get("output_tokens") or 0))
        self._cost_before = before.get("cost_micros")
        self._now: dict[str, Tokens] = {}  # in this attempt, by model
        self._called: dict[UUID, str] = {}  # calls under way, of which model each is
        self._budget, self._day = budget, day
        self._model = model or model_name()
        self._lock = Lock()

    @property
    def ignore_chain(self) -> bool:
        """Nodes are none of its business: each word of one would be a walk to a thread."""
        return True

    def usage(self, state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {"model", "input_tokens", "output_tokens"} of the whole run, and "cost_micros" where prices are known.

        `state`: the graph's. It knows what was used by an attempt that was killed before it could tell.
        """
        used = self.used(state)
        tokens = self._before + _sum(used)
        cost = prices.cost_of(used)
        told = {"model": self._model, "input_tokens": tokens.given, "output_tokens": tokens.taken}
        if cost is not None or self._cost_before is not None:
            told["cost_micros"] = int(self._cost_before or 0) + int(cost or 0)
        return told

    def used(self, state: dict[str, Any] | None = None) -> dict[str, Tokens]:
        """Return what is new in this attempt, by model; what only the state knows counts as the run's usual model's."""
        kept = _of_messages(state or {})
        with self._lock:
            found = dict(self._now)
        known = self._before + _sum(found)
        lost = Tokens(max(0, kept.given - known.given), max(0, kept.taken - known.taken))
        if lost.total:
            found[self._model] = found.get(self._model, Tokens()) + lost
        return found

    def models(self) -> str:
        """Return the names of the models that were called in this attempt, else of the run's usual one."""
        with self._lock:
            return ", ".join(sorted(self._now)) or self._model

    def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID | None = None, metadata: Any = None, **kwargs: Any
    ) -> None:
        self._begin(run_id, metadata)

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID | None = None, metadata: Any = None, **kwargs: Any
    ) -> None:
        self._begin(run_id, metadata)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID | None = None, **kwargs: Any) -> None:
        said = [getattr(one, "message", None) for generation in response.generations for one in generation]
        spent = [getattr(message, "usage_metadata", None) or {} for message in said]
        tokens = _sum({str(at): _tokens_of(one) for at, one in enumerate(spent)})
        with self._lock:
            model = self._called.pop(run_id, self._model) if run_id is not None else self._model
            if tokens.total:
                self._now[model] = self._now.get(model, Tokens()) + tokens

    def on_llm_error(self, error: BaseException, *, run_id: UUID | None = None, **kwargs: Any) -> None:
        with self._lock:
            if run_id is not None:
                self._called.pop(run_id, None)

    def _begin(self, run_id: UUID | None, metadata: Any) -> None:
        with self._lock:
            now = _sum(self._now)
            if run_id is not None:
                self._called[run_id] = _model_in(metadata) or self._model
        used = (self._before + now).total
        if self._budget is not None and used >= self._budget:
            raise BudgetUsedUp(
                f"The run's budget is used up: its models have used {used:,} tokens, and it may use {self._budget:,}. "
                "No model is called any more. `tokens_per_run` of the agent's registration is the budget."
            )
        if self._day is not None and self._day.used + now.total >= self._day.most:
            raise DayBudgetUsedUp(
                f"The agent's budget of today is used up: its runs have used {self._day.used + now.total:,} tokens "
                f"since midnight UTC, and may use {self._day.most:,}. No model is called any more. `tokens_per_day` of "
                "the agent's registration is the budget."
            )


def _model_in(metadata: Any) -> str:
    """Return the model's name as `init_chat_model` takes it, "" where the call does not say."""
    told: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    provider, name = str(told.get("ls_provider") or ""), str(told.get("ls_model_name") or "")
    return f"{provider}:{name}"[:200] if provider and name else name[:200]


def _of_messages(state: dict[str, Any]) -> Tokens:
    """Add up what the model's messages say they cost; kept in state, so a crash loses none of it."""
    messages = state.get("messages", [])
    return _sum({str(at): _tokens_of(getattr(one, "usage_metadata", None) or {}) for at, one in enumerate(messages)})


def _tokens_of(spent: Mapping[str, Any]) -> Tokens:
    return Tokens(int(spent.get("input_tokens") or 0), int(spent.get("output_tokens") or 0))


def _sum(of: Mapping[str, Tokens]) -> Tokens:
    return sum(of.values(), Tokens())
