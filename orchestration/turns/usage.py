"""What a run's models have used and what that costs, and its budgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import DatabaseError
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

from orchestration import prices
from orchestration.agents.models import model_name
from orchestration.errors import BudgetUsedUp, DayBudgetUsedUp
from orchestration.prices import Tokens

_CHARACTERS_OF_A_TOKEN: Final = 4  # as a rule of thumb


@dataclass
class DayBudget:
    """What the models of all runs of one agent may use today."""

    used: int  # as far as their turns have told
    most: int
    look: Callable[[], int] | None = None  # tells `used` anew

    def used_now(self) -> int:
        """Return what is used by now; while the database does not answer, what it said last."""
        if self.look is not None:
            with suppress(DatabaseError):
                self.used = self.look()
        return self.used


@dataclass(frozen=True)
class _Call:
    """A call under way."""

    model: str
    expected: int  # tokens


class Callers(BaseCallbackHandler):
    """Knows which calls are over. LangChain does not tell of one that was cancelled, as by a time limit.

    Told inline, so in the task that calls. A task that has ended, or calls again, waits for no call from before; of
    several that one task begins at once, the last one counts. A call from a thread ends by its answer or its error.
    """

    run_inline = True

    def __init__(self) -> None:
        self._tasks: dict[UUID, asyncio.Task[Any]] = {}
        self._newest: WeakKeyDictionary[asyncio.Task[Any], UUID] = WeakKeyDictionary()

    @property
    def ignore_chain(self) -> bool:
        return True

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._note(run_id)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **kwargs: Any) -> None:
        self._note(run_id)

    def _note(self, run_id: UUID) -> None:
        with suppress(RuntimeError):  # no loop runs in this thread
            if (task := asyncio.current_task()) is not None:
                self._tasks[run_id] = task
                self._newest[task] = run_id

    def is_over(self, run_id: UUID) -> bool:
        task = self._tasks.get(run_id)
        return task is not None and (task.done() or self._newest.get(task) != run_id)


#: takes the run's usage until now, and what of it is new, by model
Tell = Callable[[dict[str, Any], dict[str, Tokens]], None]


class Spending(BaseCallbackHandler):
    """Counts what each model says that it has used, wherever in the graph it is called, and stops the next call.

    A model is not called where a budget is used up, or does not hold what is to be expected of the call besides those
    under way: its text, and an answer as long as the longest until now. A call under way is never cut off, so answers
    that come longer, or of calls that begin before any has ended, may go beyond; and so may, for a day, what other
    turns of the agent have under way.

    Told to LangChain as a callback, as `callers` is. Not an async one: an error of those is passed over where a model
    is called by `invoke`. Nodes may run in threads.
    """

    raise_error = True

    def __init__(
        self,
        before: dict[str, Any],
        budget: int | None,
        day: DayBudget | None = None,
        model: str = "",
        tell: Tell | None = None,
        ahead: Tokens | None = None,
    ) -> None:
        """`before`: the run's usage until now. `budget`: tokens of the whole run, `None` for any number.

        `model`: the name to show where a call does not say which model it is of. `tell`: called after each call, so
        that other turns know of it, and what this attempt has used stays counted however it ends.
        `ahead`: as `ahead_of` returned it when the run's era began.
        """
        self._before = _tokens_of(before)
        self._ahead = ahead or Tokens()
        self._cost_before = before.get("cost_micros")
        self._now: dict[str, Tokens] = {}  # in this attempt, by model
        self._told: dict[str, Tokens] = {}  # of it, by `tell`
        self._called: dict[UUID, _Call] = {}  # calls under way
        self._longest = 0  # answer, in tokens
        self._budget, self._day = budget, day
        self._model = model or model_name()
        self._tell = tell
        self._lock, self._telling = Lock(), Lock()
        self.callers = Callers()

    @property
    def ignore_chain(self) -> bool:
        """Nodes are none of its business: each word of one would be a walk to a thread."""
        return True

    def usage(self, state: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {"model", "input_tokens", "output_tokens"} of the whole run, and "cost_micros" where prices are known.

        `state`: the graph's. It knows what was used by an attempt that was killed before it could tell.
        """
        used = self._used(state)
        tokens = self._before + _sum(used)
        cost = prices.cost_of(used)
        told = {"model": self._model, "input_tokens": tokens.given, "output_tokens": tokens.taken}
        if cost is not None or self._cost_before is not None:
            told["cost_micros"] = int(self._cost_before or 0) + int(cost or 0)
        return told

    def used(self, state: dict[str, Any] | None = None) -> dict[str, Tokens]:
        """Return what is new in this attempt and not told yet, by model."""
        used = self._used(state)
        with self._lock:
            left = {model: tokens - self._told.get(model, Tokens()) for model, tokens in used.items()}
        return {model: tokens for model, tokens in left.items() if tokens.total}

    def _used(self, state: dict[str, Any] | None = None) -> dict[str, Tokens]:
        """Return what is new in this attempt, by model; what only the state knows counts as the run's usual model's."""
        kept = _of_messages(state or {}) - self._ahead
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
        self._begin(run_id, metadata, sum(_length(one) for given in messages for one in given))

    def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID | None = None, metadata: Any = None, **kwargs: Any
    ) -> None:
        self._begin(run_id, metadata, sum(len(prompt) for prompt in prompts))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID | None = None, **kwargs: Any) -> None:
        said = [getattr(one, "message", None) for generation in response.generations for one in generation]
        spent = [getattr(message, "usage_metadata", None) or {} for message in said]
        tokens = _sum({str(at): _tokens_of(one) for at, one in enumerate(spent)})
        with self._lock:
            call = self._called.pop(run_id, None) if run_id is not None else None
            model = call.model if call is not None else self._model
            self._longest = max(self._longest, tokens.taken)
            if tokens.total:
                self._now[model] = self._now.get(model, Tokens()) + tokens
        if tokens.total and self._tell is not None:
            self._tell_now(self._tell)

    def on_llm_error(self, error: BaseException, *, run_id: UUID | None = None, **kwargs: Any) -> None:
        with self._lock:
            if run_id is not None:
                self._called.pop(run_id, None)

    def _tell_now(self, tell: Tell) -> None:
        """Tell what is new; where that fails it is told later, with what is new by then."""
        with self._telling, suppress(DatabaseError):
            new = self.used()
            if not new:
                return
            tell(self.usage(), new)
            with self._lock:
                self._told = {
                    model: self._told.get(model, Tokens()) + new.get(model, Tokens()) for model in {*self._told, *new}
                }

    def _begin(self, run_id: UUID | None, metadata: Any, characters: int) -> None:
        with self._telling if self._day is not None else nullcontext():  # what is told meanwhile would count twice
            today = self._day.used_now() if self._day is not None else 0
            with self._lock:
                expected = characters // _CHARACTERS_OF_A_TOKEN + self._longest
                under_way = (call.expected for at, call in self._called.items() if not self.callers.is_over(at))
                self._check(today, expected + sum(under_way))
                if run_id is not None:
                    self._called[run_id] = _Call(_model_in(metadata) or self._model, expected)

    def _check(self, today: int, coming: int) -> None:
        """Raise where a budget has no room for what is coming. The caller holds the lock."""
        now = _sum(self._now)
        used = (self._before + now).total
        if self._budget is not None and used + max(coming, 1) > self._budget:
            raise BudgetUsedUp(
                f"The run's budget {_is_short(used, self._budget)}: its models have used {used:,} tokens, and it may "
                f"use {self._budget:,}. {_told_of(coming)}No model is called any more. `tokens_per_run` of the agent's "
                "registration is the budget."
            )
        if self._day is None:
            return
        used_today = today + now.total - _sum(self._told).total
        if used_today + max(coming, 1) > self._day.most:
            raise DayBudgetUsedUp(
                f"The agent's budget of today {_is_short(used_today, self._day.most)}: its runs have used "
                f"{used_today:,} tokens since midnight UTC, and may use {self._day.most:,}. {_told_of(coming)}No model "
                "is called any more. `tokens_per_day` of the agent's registration is the budget."
            )


def _is_short(used: int, most: int) -> str:
    return "is used up" if used >= most else "has no room for the next call"


def _told_of(coming: int) -> str:
    return f"That call and those under way are expected to take {coming:,}. " if coming else ""


def _length(message: Any) -> int:
    """Return how many characters of text a message holds, and of its tool calls. Pictures count nothing."""
    calls = getattr(message, "tool_calls", None) or []
    return len(str(message.text)) + sum(len(str(call.get("args", ""))) for call in calls)


def _model_in(metadata: Any) -> str:
    """Return the model's name as `init_chat_model` takes it, "" where the call does not say."""
    told: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
    provider, name = str(told.get("ls_provider") or ""), str(told.get("ls_model_name") or "")
    return f"{provider}:{name}"[:200] if provider and name else name[:200]


def ahead_of(usage: Mapping[str, Any], state: dict[str, Any]) -> Tokens:
    """Return how many tokens more than the run's usage the state knows of, where an era of the run begins.

    None of them are the run's to pay: a fork begins with the messages of the run that it was forked from. Of a run that
    was set back it is less than nothing: the usage knows of messages that its state has not got any more.
    """
    return _of_messages(state) - _tokens_of(usage)


def _of_messages(state: dict[str, Any]) -> Tokens:
    """Add up what the model's messages say they cost; kept in state, so a crash loses none of it.

    A foreign state may use the name for something else.
    """
    messages = state.get("messages")
    said = [one for one in messages if isinstance(one, AIMessage)] if isinstance(messages, list) else []
    return _sum({str(at): _tokens_of(one.usage_metadata or {}) for at, one in enumerate(said)})


def _tokens_of(spent: Mapping[str, Any]) -> Tokens:
    return Tokens(int(spent.get("input_tokens") or 0), int(spent.get("output_tokens") or 0))


def _sum(of: Mapping[str, Tokens]) -> Tokens:
    return sum(of.values(), Tokens())
