"""`require_approval`: a function that people approve before it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import typing
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from signalbox_client.answers import Answer, Approval
from signalbox_client.calls import Outcome, Risk, as_json
from signalbox_client.client import AsyncSignalbox, Signalbox
from signalbox_client.errors import (
    FailedBefore,
    NotApproved,
    NothingHappened,
    NotReported,
    OutcomeUnknown,
    Rejected,
    SignalboxError,
    StillPending,
)

P = ParamSpec("P")
R = TypeVar("R")
Key = str | Callable[[dict[str, Any]], str]
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}


def require_approval(
    *,
    tool: str | None = None,
    risk: Risk = "high",
    title: str | None = None,
    key: Key | None = None,
    box: Signalbox | AsyncSignalbox | None = None,
    wait: float = math.inf,
    schema: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have people approve each call of a function, also an asynchronous one, before it runs.

    approve: it runs. edit: it runs with the arguments as they were changed. reject: Rejected, with the reason.
    respond: what was answered is returned, and it does not run. Nobody in time: NotApproved. `wait`: seconds until
    StillPending; the next call under the same key goes on waiting, and without a `key` the request is taken back.

    `key` names one call, so that a program that is started again asks nobody twice: a text with the arguments' names in
    braces, "cleanup/{name}", or a function of the arguments. Without it each call is a question of its own. Under a
    key that was done before, the earlier result is returned and the function does not run again; where it was reported
    that nobody knows how it ended, OutcomeUnknown. That it begins is not told to Signalbox: two programs that wait
    under one key at the same time both run, and so does one that is killed between its effect and its report and is
    started again. Where that must not be, the function takes the key along as its own.

    `title`: one sentence, in which the arguments may stand in braces. The arguments must be JSON; their annotations
    become the schema with which reviewers may change them, where `schema` is not given. What the function returns is
    reported; when it raises, the outcome is reported as unknown, or as failed for NothingHappened. Where it has run and
    that cannot be reported, NotReported is raised, with what it returned.

    A result that JSON gives back changed, as a tuple or an object, or that is too long, is not kept: the call that ran
    returns it, the next one under its key returns None. A generator is refused with TypeError, and so is what a
    function returns without having done it yet: an awaitable or a generator. Such a call is reported as unknown.
    """

    def guard(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__name__} is a generator: nobody could say when it is done. Guard what it calls."
            )
        asked = _Asked(function, tool or function.__name__, risk, title, key, wait, schema)
        if inspect.iscoroutinefunction(function):
            return functools.wraps(function)(_guarded_async(asked, function, box))  # type: ignore[return-value]
        guarded: Callable[P, R] = functools.wraps(function)(_guarded(asked, function, box))
        return guarded

    return guard


def _guarded(asked: _Asked[P, R], function: Callable[..., R], box: Any) -> Callable[P, R]:
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        at: Signalbox = box or Signalbox()
        try:
            question = asked.question(args, kwargs)
            approval = at.ask(**question)
            if (known := earlier(approval)) is not None:
                return typing.cast(R, known.value)
            answer = at.answer(approval, wait=asked.wait)
            if answer is None and not asked.can_be_found:
                answer = at.give_up(approval, "The program has stopped waiting.")
            if (told := _instead(approval, answer)) is not None:
                return typing.cast(R, told.value)
            assert answer is not None
            try:
                arguments = asked.call_with(answer)
            except TypeError as exc:  # the function was not begun
                with contextlib.suppress(SignalboxError):
                    at.report(approval, "failed", error=f"{exc}")
                raise
            with _running() as outcome:
                try:
                    result = _finished(function(**arguments))
                except BaseException as exc:
                    with contextlib.suppress(SignalboxError):  # what the function raised says more
                        at.report(approval, outcome(exc), error=f"{type(exc).__name__}: {exc}")
                    raise
            try:
                at.report(approval, "done", result=as_json(result))
            except SignalboxError as exc:
                raise NotReported(approval.id, result, exc) from exc
            return result
        finally:
            if box is None:
                at.close()

    return guarded


def _guarded_async(asked: _Asked[P, R], function: Callable[..., Any], box: Any) -> Callable[P, Awaitable[R]]:
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        at: AsyncSignalbox = box or AsyncSignalbox()
        try:
            question = asked.question(args, kwargs)
            approval = await at.ask(**question)
            if (known := earlier(approval)) is not None:
                return typing.cast(R, known.value)
            answer = await at.answer(approval, wait=asked.wait)
            if answer is None and not asked.can_be_found:
                answer = await at.give_up(approval, "The program has stopped waiting.")
            if (told := _instead(approval, answer)) is not None:
                return typing.cast(R, told.value)
            assert answer is not None
            try:
                arguments = asked.call_with(answer)
            except TypeError as exc:
                with contextlib.suppress(SignalboxError):
                    await at.report(approval, "failed", error=f"{exc}")
                raise
            with _running() as outcome:
                try:
                    result: R = _finished(await function(**arguments))
                except BaseException as exc:
                    with contextlib.suppress(SignalboxError):
                        await at.report(approval, outcome(exc), error=f"{type(exc).__name__}: {exc}")
                    raise
            try:
                await at.report(approval, "done", result=as_json(result))
            except SignalboxError as exc:
                raise NotReported(approval.id, result, exc) from exc
            return result
        finally:
            if box is None:
                await at.close()

    return guarded


class _Asked(Generic[P, R]):
    """What is asked for each call of one function."""

    def __init__(
        self,
        function: Callable[P, R],
        tool: str,
        risk: Risk,
        title: str | None,
        key: Key | None,
        wait: float,
        schema: Mapping[str, Any] | None,
    ) -> None:
        self._signature = inspect.signature(function)
        loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
        if any(one.kind in loose for one in self._signature.parameters.values()):
            raise TypeError(f"{function.__name__} takes arguments without a name, which nobody could be shown.")
        self._tool, self._risk, self._key, self.wait = tool, risk, key, wait
        self._title = title or _first_line(function) or tool.replace("_", " ").capitalize()
        self._schema = schema or _schema_of(function, self._signature)

    def question(self, args: Any, kwargs: Any) -> dict[str, Any]:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        return {
            "title": _filled(self._title, arguments),
            "tool": self._tool,
            "arguments": arguments,
            "key": self._key_for(arguments),
            "risk": self._risk,
            "schema": self._schema,
            "reports": True,
        }

    @property
    def can_be_found(self) -> bool:
        """Return whether another call can go on waiting for the same question."""
        return self._key is not None

    def _key_for(self, arguments: dict[str, Any]) -> str:
        if self._key is None:
            return f"{self._tool}/{uuid.uuid4()}"
        return self._key(arguments) if callable(self._key) else self._key.format_map(arguments)

    def call_with(self, answer: Answer) -> dict[str, Any]:
        arguments = answer.arguments or {}
        self._signature.bind(**arguments)  # raises TypeError: a change took or added one that the function needs
        return arguments


@dataclass(frozen=True)
class Value:
    """What is returned without running; it may be None."""

    value: Any


def earlier(approval: Approval) -> Value | None:
    """Return what came of it under this key before. Raises OutcomeUnknown, FailedBefore."""
    executed = approval.executed
    if executed is None:
        return None
    if executed["status"] == "done":
        return Value(executed["result"])
    if executed["status"] == "failed":
        error = executed["error"] or "it failed"
        raise FailedBefore(f"It was approved and tried before under this key, and failed: {error}")
    raise OutcomeUnknown(f"{approval.id} was begun before, and whether it happened is not known.")


def _instead(approval: Approval, answer: Answer | None) -> Value | None:
    """Return what was answered in the function's place, None when it is to run."""
    if answer is None:
        raise StillPending(approval.id)
    if answer.verdict == "respond":
        return Value(answer.answer)
    if answer.verdict == "reject":
        raise Rejected(approval.id, answer.status, answer.note)
    if not answer.approved:
        raise NotApproved(approval.id, answer.status, answer.note)
    return None


def _finished(result: R) -> R:
    """Return the result. Raises TypeError for one that stands for work which is still to be done."""
    if not (inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)):
        return result
    if inspect.iscoroutine(result):
        result.close()  # nobody awaits it any more
    kind = type(result).__name__
    raise TypeError(f"A guarded function returned a {kind}, so it is not done. Guard an `async def`, or what it calls.")


def outcome_of(exc: BaseException) -> Outcome:
    return "failed" if isinstance(exc, NothingHappened) else "unknown"


#: what guards inside the one that runs have reported as theirs: by then it may have done something itself
_REPORTED: ContextVar[list[BaseException] | None] = ContextVar("reported", default=None)


@contextlib.contextmanager
def _running() -> Iterator[Callable[[BaseException], Outcome]]:
    """Give what says the outcome of the guarded function that runs in this block, when it raises."""
    outside, inside = _REPORTED.get(), list[BaseException]()
    token = _REPORTED.set(inside)

    def outcome(exc: BaseException) -> Outcome:
        if outside is not None:
            outside.append(exc)
        return "unknown" if any(one is exc for one in inside) else outcome_of(exc)

    try:
        yield outcome
    finally:
        _REPORTED.reset(token)


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].strip()


def _filled(title: str, arguments: dict[str, Any]) -> str:
    try:
        return title.format_map(arguments)[:500]
    except (KeyError, IndexError, ValueError, AttributeError):
        return title[:500]  # braces that were meant as such


def _schema_of(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        hints = {}
    properties = {name: _type_of(hints.get(name)) for name in signature.parameters}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type_of(hint: Any) -> dict[str, Any]:
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal and all(isinstance(one, str) for one in typing.get_args(hint)):
        return {"type": "string", "enum": list(typing.get_args(hint))}
    return {"type": _TYPES[origin]} if origin in _TYPES else {}
