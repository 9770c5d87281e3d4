"""The two clients. Every call may be repeated, so each is, for `patience` seconds, when nobody said no."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any

import httpx

from signalbox_client import calls
from signalbox_client.answers import Answer, Approval
from signalbox_client.calls import POLL_SECONDS, Call, Outcome, Place, Risk
from signalbox_client.errors import Refused, Unreachable

PATIENCE = 60.0  # seconds
#: each call that waits has a connection of its own
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class Signalbox:
    """Signalbox as one service account sees it. Safe to share between threads.

    `url` and `token`: from SIGNALBOX_URL and SIGNALBOX_TOKEN when not given. `patience`: for how many seconds a call
    is repeated that got no answer. `transport`: for tests, see `signalbox_client.testing`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = PATIENCE,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        place = Place.of(url, token)
        self._patience = patience
        self._http = httpx.Client(base_url=place.url, headers=place.headers, transport=transport, limits=_LIMITS)

    def ask(
        self,
        title: str,
        *,
        tool: str,
        arguments: Mapping[str, Any],
        key: str,
        risk: Risk = "high",
        words: str = "",
        schema: Mapping[str, Any] | None = None,
        verdicts: Sequence[str] | None = None,
        audience: Sequence[str] | None = None,
        due_at: datetime | None = None,
        deliver_to: Mapping[str, Any] | None = None,
        reports: bool | None = None,
    ) -> Approval:
        """Ask for an approval. The same key with the same question finds the same request, and asks nobody twice.

        `title`: what shall be done, in one sentence. `words`: why, in the program's own. `schema`: a JSON schema of
        the arguments, with which reviewers may change them. `reports`: whether `report` will follow; it is missed
        when it does not. Raises Refused, for one when the key was used for another question; Unreachable.
        """
        return calls.read_approval(
            self._send(
                calls.ask(
                    title,
                    tool=tool,
                    arguments=arguments,
                    key=key,
                    risk=risk,
                    words=words,
                    schema=schema,
                    verdicts=verdicts,
                    audience=audience,
                    due_at=due_at,
                    deliver_to=deliver_to,
                    reports=reports,
                )
            )
        )

    def answer(self, approval: Approval | str, *, wait: float = 0) -> Answer | None:
        """Return the answer, None when there is none after `wait` seconds (`math.inf`: wait for ever)."""
        until = time.monotonic() + wait
        while True:
            began = time.monotonic()
            held = min(max(0.0, until - began), POLL_SECONDS)
            found = calls.read_answer(self._send(calls.answer(approval, held)))
            if found is not None or time.monotonic() >= until:
                return found
            time.sleep(calls.rest(held, time.monotonic() - began))

    def report(
        self, approval: Approval | str, status: Outcome = "done", *, result: Any = None, error: str = ""
    ) -> None:
        """Say what came of it. `failed`: nothing happened, for certain. The first word stands; repeating it is well.

        A result that cannot be kept, for one because it is too long, is left out: the outcome counts.
        """
        call = calls.report(approval, status, result, error)
        told = self._send(call)
        if (shorter := calls.without_result(call, told)) is not None:
            told = self._send(shorter)
        calls.read_approval(told)

    def withdraw(self, approval: Approval | str, reason: str) -> Approval:
        """Take a request back that is no longer needed. Raises Refused when it was decided or expired before."""
        return calls.read_approval(self._send(calls.withdraw(approval, reason)))

    def give_up(self, approval: Approval | str, reason: str) -> Answer | None:
        """Take a request back that nobody waits for any more; return the answer where somebody was faster.

        None where it was taken back: then nobody decides what nobody would do.
        """
        try:
            self.withdraw(approval, reason)
        except Refused:
            return self.answer(approval)
        return None

    def get(self, approval: Approval | str) -> Approval:
        """Return the request as it stands now."""
        return calls.read_approval(self._send(calls.get(approval)))

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Signalbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _send(self, call: Call) -> httpx.Response:
        until, attempt = time.monotonic() + self._patience + call.timeout, 0
        while True:
            attempt += 1
            told, why = None, ""
            try:
                told = self._http.request(
                    call.method, call.path, json=call.body, params=call.query, timeout=call.timeout
                )
            except calls.NEVER_SENT as exc:  # its words may quote what was to be sent
                raise Unreachable(f"It cannot be sent: {type(exc).__name__}.") from None
            except httpx.TransportError as exc:
                why = f"{type(exc).__name__}: {exc}"
            if told is not None and not calls.is_to_be_sent_again(told):
                return told
            pause = calls.pause(attempt, told)
            if time.monotonic() + pause > until:
                raise _unreachable(told, why)
            time.sleep(pause)


class AsyncSignalbox:
    """`Signalbox` with `await`; see there."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience: float = PATIENCE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        place = Place.of(url, token)
        self._patience = patience
        self._http = httpx.AsyncClient(base_url=place.url, headers=place.headers, transport=transport, limits=_LIMITS)

    async def ask(
        self,
        title: str,
        *,
        tool: str,
        arguments: Mapping[str, Any],
        key: str,
        risk: Risk = "high",
        words: str = "",
        schema: Mapping[str, Any] | None = None,
        verdicts: Sequence[str] | None = None,
        audience: Sequence[str] | None = None,
        due_at: datetime | None = None,
        deliver_to: Mapping[str, Any] | None = None,
        reports: bool | None = None,
    ) -> Approval:
        return calls.read_approval(
            await self._send(
                calls.ask(
                    title,
                    tool=tool,
                    arguments=arguments,
                    key=key,
                    risk=risk,
                    words=words,
                    schema=schema,
                    verdicts=verdicts,
                    audience=audience,
                    due_at=due_at,
                    deliver_to=deliver_to,
                    reports=reports,
                )
            )
        )

    async def answer(self, approval: Approval | str, *, wait: float = 0) -> Answer | None:
        until = time.monotonic() + wait
        while True:
            began = time.monotonic()
            held = min(max(0.0, until - began), POLL_SECONDS)
            found = calls.read_answer(await self._send(calls.answer(approval, held)))
            if found is not None or time.monotonic() >= until:
                return found
            await asyncio.sleep(calls.rest(held, time.monotonic() - began))

    async def report(
        self, approval: Approval | str, status: Outcome = "done", *, result: Any = None, error: str = ""
    ) -> None:
        call = calls.report(approval, status, result, error)
        told = await self._send(call)
        if (shorter := calls.without_result(call, told)) is not None:
            told = await self._send(shorter)
        calls.read_approval(told)

    async def withdraw(self, approval: Approval | str, reason: str) -> Approval:
        return calls.read_approval(await self._send(calls.withdraw(approval, reason)))

    async def give_up(self, approval: Approval | str, reason: str) -> Answer | None:
        try:
            await self.withdraw(approval, reason)
        except Refused:
            return await self.answer(approval)
        return None

    async def get(self, approval: Approval | str) -> Approval:
        return calls.read_approval(await self._send(calls.get(approval)))

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> AsyncSignalbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, call: Call) -> httpx.Response:
        until, attempt = time.monotonic() + self._patience + call.timeout, 0
        while True:
            attempt += 1
            told, why = None, ""
            try:
                told = await self._http.request(
                    call.method, call.path, json=call.body, params=call.query, timeout=call.timeout
                )
            except calls.NEVER_SENT as exc:  # its words may quote what was to be sent
                raise Unreachable(f"It cannot be sent: {type(exc).__name__}.") from None
            except httpx.TransportError as exc:
                why = f"{type(exc).__name__}: {exc}"
            if told is not None and not calls.is_to_be_sent_again(told):
                return told
            pause = calls.pause(attempt, told)
            if time.monotonic() + pause > until:
                raise _unreachable(told, why)
            await asyncio.sleep(pause)


def _unreachable(told: httpx.Response | None, why: str) -> Unreachable:
    if told is None:
        return Unreachable(f"No answer: {why}")
    answered, detail = f"Signalbox answered {told.status_code}", calls.problem_in(told).get("detail")
    return Unreachable(f"{answered}: {detail}" if detail else f"{answered}.")
