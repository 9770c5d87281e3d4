"""Several systems, answered in turn, in an order that is thrown anew for each trial; and the table of it."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench.decision import quantile
from bench.peers.installing import PeerFailed, telling
from bench.peers.peer import Answerable, Peer
from stack.errors import StackError

WARM: Final = 3  # trials that are not counted
LOST_AT_MOST: Final = 2  # trials that a peer may fail of, and is measured all the same
PATIENCE: Final = 180.0  # seconds for one step of one system; reached by one that is broken only
COLUMNS: Final = ["answer to next step, ms", "p50", "p95", "times ours"]


@dataclass
class Comparison:
    """Milliseconds from an answer to the next step, a list for each system by its title, or why there are none."""

    peers: Sequence[Peer]
    say: Callable[[str], None]
    times: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    lost: dict[str, list[str]] = field(default_factory=dict)  # what single trials of a peer failed of, the rest went on

    def install(self) -> None:
        """Install every peer that is not yet in the cache."""
        for peer in self.peers:
            self.say(f"Installing {peer.title} {peer.version}, unless it is in the cache")
            self._attempt(peer, peer.install)

    def start(self, ended: ExitStack) -> None:
        """Start every peer that is installed; `ended` stops each, also one that did not come up."""
        for peer in self._living():
            ended.callback(peer.stop)
            self.say(f"Starting {peer.title} {peer.version}")
            self._attempt(peer, peer.start)

    async def measure(self, ours: Answerable, trials: int, settle: tuple[float, float] = (0.5, 1.5)) -> None:
        """Let each system wait, then answer them one after the other. Raises what ours fails of.

        `settle`: seconds before each answer, between these two at random: long enough that the wait has settled and
        what the last answer began is over, and of no fixed place in a scheduler's loop.
        """
        for trial in range(WARM + trials):
            waiting: dict[Answerable, Any] = {}
            asked: list[Answerable] = [ours, *self._living()]
            for one in asked:
                async with self._allowed(one):
                    waiting[one] = await one.waiting()
            for one in random.sample(list(waiting), len(waiting)):
                await asyncio.sleep(random.uniform(*settle))
                async with self._allowed(one):
                    nanoseconds = await one.answered(waiting[one])
                    if trial >= WARM:
                        self.times.setdefault(one.title, []).append(nanoseconds / 1e6)

    def rows(self, ours: Answerable) -> list[list[str]]:
        """Return the table's rows, ours first. Whatever failed says of what instead of its figures."""
        own = statistics.median(self.times[ours.title])
        rows = []
        systems: list[Answerable] = [ours, *self.peers]
        for one in systems:
            name = f"{one.title} {one.version}".strip()
            times, lost = self.times.get(one.title, []), self.lost.get(one.title, [])
            if one.title in self.failed or not times:
                rows.append([f"{name}: not measured, *{self.failed.get(one.title) or lost[-1]}*", "", "", ""])
                continue
            if lost:
                name += f", {len(lost)} more failed"
            middle = statistics.median(times)
            ratio = f"{middle / own:.2f}" if middle < 10 * own else f"{middle / own:.0f}"
            rows.append([name, f"{middle:.1f}", f"{quantile(times, 0.95):.1f}", ratio])
        return rows

    def notes(self) -> list[str]:
        """Return a sentence for each peer that was measured and lost single trials."""
        return [
            f"{peer.title} failed of some: *{self.lost[peer.title][-1]}*"
            for peer in self._living()
            if peer.title in self.lost
        ]

    def _living(self) -> list[Peer]:
        return [peer for peer in self.peers if peer.title not in self.failed]

    def _attempt(self, peer: Peer, step: Callable[[], None]) -> None:
        """Do it. What a peer fails of is kept for the table, and the others go on."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  whatever it is, it is named
            self._fail(peer, error)

    @asynccontextmanager
    async def _allowed(self, one: Answerable) -> AsyncIterator[None]:
        """The same for what is awaited, and not for ever; it may fail of a few."""
        try:
            async with asyncio.timeout(PATIENCE):
                yield
        except Exception as error:
            if not isinstance(one, Peer):
                raise
            lost = self.lost.setdefault(one.title, [])
            lost.append(_words(error))
            self.say(f"{one.title} lost one: {lost[-1]}")
            if len(lost) > LOST_AT_MOST:
                self._fail(one, error)

    def _fail(self, peer: Peer, error: Exception) -> None:
        self.failed[peer.title] = _words(error)
        self.say(f"{peer.title} {peer.version} is left out: {_words(error)}")
        peer.stop()  # it would go on taking time from the others


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {PATIENCE:.0f} s"
    if isinstance(error, PeerFailed | StackError):
        return telling(str(error))
    return telling(f"{type(error).__name__}: {error}")
