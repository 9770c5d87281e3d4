"""The only door to LangGraph Agent Servers: which threads wait, how one stands, and an answer for it.

Each call has a deadline, an answer is read up to a size, no redirect is followed and no proxy is used. What goes wrong
is told by the server's name and a status, never in the server's own words: they could repeat what was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import httpx
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from orchestration.agent_servers.registered import AgentServer
from orchestration.agent_servers.standing import RemoteThread, thread_of
from orchestration.errors import AgentServerAway, AgentServerRefused, ThreadBusy, ThreadGone
from orchestration.stops import Stop

SECONDS: Final = 15.0  # for one call
MOST_BYTES: Final = 20_000_000  # of one answer
PAGE: Final = 100  # threads
_RUNS_LOOKED_AT: Final = 50
_CUT_SHORT: Final = ("interrupted", "error", "timeout")  # how a run ends that does not reach the stop of its graph
_HINTS: Final = {401: " Is its key right?", 403: " Is its key right?", 404: " Is its address right?"}


@dataclass(frozen=True)
class WaitingThread:
    """A thread that waits, as the list of threads has it."""

    thread_id: str
    graph: str  # its id, "" where the server does not say
    interrupt_ids: tuple[str, ...]  # none: it stands at a stop of its compilation


class AgentServerGateway(Protocol):
    """One server, as this installation uses it. Every call raises AgentServerAway when it is not answered."""

    async def waiting(self, offset: int) -> list[WaitingThread]:
        """Return up to PAGE threads that wait, the oldest first, leaving out `offset` of them."""

    async def thread(self, thread_id: str) -> RemoteThread:
        """Return how a thread stands. Raises ThreadGone only where the server's list of threads lacks it too."""

    async def has_run_for(self, thread_id: str, key: str) -> bool:
        """Return whether one of the thread's newest runs was started by `answer` with this key."""

    async def answer(self, thread: RemoteThread, resume: Mapping[str, Any] | None, key: str) -> str:
        """Let the thread go on and return the id of the run that does it; the run itself is not waited for.

        `resume`: interrupt id -> answer; `None` goes on from a stop. `key`: kept with the run. Raises ThreadBusy while
        a run is under way.
        """


@asynccontextmanager
async def connected(server: AgentServer) -> AsyncIterator[AgentServerGateway]:
    """Yield the way to a server. Raises AgentServerAway when its key cannot be read."""
    headers = {"User-Agent": "Signalbox", "Accept-Encoding": "identity"}
    key = server.api_key()
    if key is not None:
        headers["x-api-key"] = key
    client = httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=SECONDS, trust_env=False, transport=_Bounded()
    )
    async with client:
        yield RealAgentServer(server.name, LangGraphClient(client))


@dataclass
class RealAgentServer:
    """A server over langgraph-sdk."""

    name: str
    client: LangGraphClient = field(repr=False)

    async def waiting(self, offset: int) -> list[WaitingThread]:
        async with self._asking():
            found = await self.client.threads.search(
                status="interrupted",
                limit=PAGE,
                offset=offset,
                sort_by="created_at",
                sort_order="asc",
                select=["thread_id", "metadata", "interrupts"],  # the values of 100 threads may be too long
            )
        if not isinstance(found, list):
            raise AgentServerAway(f"{self.name} answered with something else than its threads.")
        return [_waiting(one) for one in found if isinstance(one, dict) and isinstance(one.get("thread_id"), str)]

    async def thread(self, thread_id: str) -> RemoteThread:
        async with self._asking():
            try:
                about = await self.client.threads.get(thread_id)
            except APIStatusError as exc:
                if exc.status_code == 404 and not await self._lists(thread_id):
                    raise ThreadGone(f"{self.name} has no such thread any more.") from None
                raise
        async with self._asking():
            state = await self.client.threads.get_state(thread_id, subgraphs=True)
        if not (isinstance(about, dict) and isinstance(state, dict)):
            raise AgentServerAway(f"{self.name} answered with something else than a thread.")
        thread = thread_of(thread_id, about, state)
        has_stop = any(isinstance(one, Stop) for one in thread.asked)
        return replace(thread, was_cut_short=has_stop and await self._was_cut_short(thread_id))

    async def _lists(self, thread_id: str) -> bool:
        """Return whether the list of threads has the thread: a proxy answers 404 too, for what it does not know."""
        found = await self.client.threads.search(ids=[thread_id], limit=1, select=["thread_id"])
        if not isinstance(found, list):
            raise AgentServerAway(f"{self.name} answered with something else than its threads.")
        return any(isinstance(one, dict) and one.get("thread_id") == thread_id for one in found)

    async def _was_cut_short(self, thread_id: str) -> bool:
        """Return whether the thread's newest run was cancelled or failed: that looks as a stop of its graph does."""
        async with self._asking():
            runs = await self.client.runs.list(thread_id, limit=1)
        return any(isinstance(run, dict) and run.get("status") in _CUT_SHORT for run in runs)

    async def has_run_for(self, thread_id: str, key: str) -> bool:
        async with self._asking():
            runs = await self.client.runs.list(thread_id, limit=_RUNS_LOOKED_AT)
        return any(isinstance(run, dict) and (run.get("metadata") or {}).get("signalbox") == key for run in runs)

    async def answer(self, thread: RemoteThread, resume: Mapping[str, Any] | None, key: str) -> str:
        options: dict[str, Any] = {"command": {"resume": dict(resume)}, "strict_resume": True} if resume else {}
        async with self._asking():
            run = await self.client.runs.create(
                thread.thread_id,
                thread.assistant_id,
                metadata={"signalbox": key},
                multitask_strategy="reject",
                **options,
            )
        return str(run.get("run_id", "")) if isinstance(run, dict) else ""

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Give one call its deadline, and what goes wrong its words."""
        try:
            async with asyncio.timeout(SECONDS):
                yield
        except APIStatusError as exc:
            if exc.status_code == 409:
                raise ThreadBusy(f"A run of the thread is under way on {self.name}.") from None
            hint = _HINTS.get(exc.status_code, "")
            refused = 400 <= exc.status_code < 500 and exc.status_code not in (408, 429)
            kind = AgentServerRefused if refused else AgentServerAway
            raise kind(f"{self.name} answered with status {exc.status_code}.{hint}") from None
        except TimeoutError:
            raise AgentServerAway(f"{self.name} did not answer within {SECONDS:.0f} seconds.") from None
        except httpx.HTTPError as exc:
            raise AgentServerAway(f"{self.name} could not be reached: {type(exc).__name__}.") from None
        except ValueError:
            raise AgentServerAway(f"{self.name} answered with something that is no JSON.") from None


def _waiting(found: Mapping[str, Any]) -> WaitingThread:
    metadata = found.get("metadata")
    interrupts = found.get("interrupts")
    lists: Sequence[Any] = list(interrupts.values()) if isinstance(interrupts, dict) else []
    ids = [one.get("id") for of in lists if isinstance(of, list) for one in of if isinstance(one, dict)]
    return WaitingThread(
        thread_id=str(found["thread_id"]),
        graph=str(metadata.get("graph_id") or "") if isinstance(metadata, dict) else "",
        interrupt_ids=tuple(one for one in ids if isinstance(one, str) and one),
    )


class _Bounded(httpx.AsyncBaseTransport):
    """Gives up an answer that is too long, before it fills the memory."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        response.stream = _BoundedStream(stream, request)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._inner, self._request = inner, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for chunk in self._inner:
            read += len(chunk)
            if read > MOST_BYTES:
                raise httpx.ReadError("the answer is too long", request=self._request)
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
