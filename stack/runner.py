"""Keeps one part running: a thread that starts it, says so, watches it and starts it again."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence

from console import set_up
from console.backoff import Backoff
from stack.console_parts import OutsideEngine
from stack.errors import PartFailed, StackError, Stopped
from stack.services import Service

PAUSES = Backoff(0.2, 15)
HEALTHY_AFTER_SECONDS = 60.0
_LOOK_SECONDS = 0.1  # how soon a death is seen
RETRY_PREPARE_SECONDS = 60.0
GIVES_WAY_SECONDS = 10.0  # at most: then it starts beside them
_SILENT_SECONDS = 3.0  # an engine that is started at the same time is not talked about

#: Says one line about a part; the number is the seconds it took, when that is of interest.
SayPart = Callable[[str, str, float | None], None]


class Restarts:
    """Counts how often a part has failed in a row; a minute of health makes it start over."""

    def __init__(self) -> None:
        self._failures = 0

    def pause(self, healthy_seconds: float) -> float:
        """Return how long to wait now, given how long the part was ready before it ended."""
        self._failures = 1 if healthy_seconds >= HEALTHY_AFTER_SECONDS else self._failures + 1
        return PAUSES.pause(self._failures)


class Runner(threading.Thread):
    """The life of one part. Everything but `run` may be called from any thread."""

    def __init__(
        self,
        service: Service,
        *,
        needs: Sequence[threading.Event],
        say: SayPart,
        changed: Callable[[], None],
        fatal: Callable[[StackError], None] | None = None,
        gives_way_to: Sequence[threading.Event] = (),
    ) -> None:
        """Describe a life; `start` begins it.

        `needs`: all set when it may start. `gives_way_to`: waited for as well, for some seconds: on two cores what
        people wait for comes first. `changed`: called when its pid changed. `fatal`: told why it
        can never start; without it the preparation is tried again each minute.
        """
        super().__init__(name=f"part-{service.name}", daemon=True)
        self.service = service
        self.ready = threading.Event()
        self.preparing = False  # what is done once: it may take minutes, such as building a server
        self.failure: StackError | None = None  # why it is not up, while it is not
        self._needs = needs
        self._gives_way_to = gives_way_to
        self._say = say
        self._changed = changed
        self._fatal = fatal
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._held = False
        self._killed_by_hand = False  # held by a signal that somebody else sends
        self._restarting = False

    # From other threads.

    def end(self) -> None:
        """Ask the part to stop for good; `join` waits for it."""
        self._stopping.set()
        self._wake.set()

    def hold(self, *, killing: bool = False) -> None:
        """Keep the part down from now on: stop it if it runs (the caller does when `killing`)."""
        self._killed_by_hand = killing
        self._held = True
        self._wake.set()

    def release(self) -> None:
        """Let a held part start again."""
        self._held = False
        self._wake.set()

    def restart(self) -> None:
        """Stop the part in good order and start it again at once."""
        self._restarting = True
        self.ready.clear()
        self._wake.set()

    @property
    def is_held(self) -> bool:
        return self._held

    # The thread.

    def run(self) -> None:
        try:
            self._live()
        except Stopped:
            pass
        finally:
            self.ready.clear()
            self.service.stop()
            self._changed()

    def _live(self) -> None:
        for need in self._needs:
            self._wait_for(need)
        latest = time.monotonic() + GIVES_WAY_SECONDS
        for other in self._gives_way_to:
            self._wait_for(other, latest)
        began = time.monotonic()
        if not self._prepared():
            return
        if isinstance(self.service, OutsideEngine):
            self._await_outside(self.service, began)
            return
        adopted = self.service.adopt()
        restarts = Restarts()
        while not self._stopping.is_set():
            if self._held:
                self._pause(_LOOK_SECONDS)
                continue
            if not adopted and not self._launched(restarts):
                began = time.monotonic()
                continue
            self.failure = None
            self._changed()
            how = "taken over" if adopted else "ready"
            self._tell(f"{how} {self.service.place()}".rstrip(), time.monotonic() - began)
            self.ready.set()
            adopted = False
            self._watch(restarts)
            began = time.monotonic()

    def _prepared(self) -> bool:
        """Do what the part needs once. Where that fails, say why and try again each minute, unless fatal."""
        last = ""
        while True:
            try:
                self._prepare()
            except Stopped:
                raise
            except StackError as error:
                self.failure = error
                if self._fatal is not None:
                    self._fatal(error)
                    return False
                if str(error) != last:
                    last = str(error)
                    self._tell(f"cannot be started; the rest works without it.\n{error}\n")
                self._pause(RETRY_PREPARE_SECONDS, through_wakes=True)
                if self._stopping.is_set():
                    return False
            else:
                return True

    def _prepare(self) -> None:
        self.preparing = True
        home, name = self.service.home, self.service.name

        def say(words: str) -> None:
            set_up.say(home, name, words)
            self._tell(words)

        try:
            self.service.prepare(say, self._stopping.is_set)
        except OSError as error:
            raise PartFailed(f"What {name} needs could not be set up: {error}.") from error
        finally:
            set_up.done(home, name)
            self.preparing = False

    def _launched(self, restarts: Restarts) -> bool:
        try:
            self.service.launch()
            self._changed()
            self.service.wait_ready(lambda: self._stopping.is_set() or self._held)
        except Stopped:
            self.service.stop()
            self._changed()
            return False
        except PartFailed as error:
            first_time = self.failure is None
            self.failure = error
            self.service.stop()
            self._changed()
            pause = restarts.pause(0)
            sentence = str(error) if first_time else str(error).splitlines()[0]
            self._tell(f"{_without_name(sentence, self.service.name)}\nTrying again in {pause:g} s.")
            self._pause(pause)
            return False
        return True

    def _watch(self, restarts: Restarts) -> None:
        """Wait until the part ends or is to be stopped."""
        ready_at = time.monotonic()
        process = self.service.process
        while process is not None and process.is_running():
            if self._stopping.is_set():
                return
            if (self._held and not self._killed_by_hand) or self._restarting:
                self.ready.clear()
                self.service.stop()
                self._restarting = False
                self._changed()
                return
            self._pause(_LOOK_SECONDS)
        self.ready.clear()
        self._restarting = False
        status = process.reap() if process is not None else None
        self.service.stop()
        self._changed()
        if self._stopping.is_set():
            return
        if self._held:
            self._tell(f"{_how_it_ended(status)}; kept down")
            return
        pause = restarts.pause(time.monotonic() - ready_at)
        last = self.service.last_word()
        said = f"\nIts last words: {last}" if last else ""
        self._tell(f"{_how_it_ended(status)}; starting it again in {pause:g} s{said}")
        self._pause(pause)

    def _await_outside(self, outside: OutsideEngine, began: float) -> None:
        told = ""
        while not self._stopping.is_set():
            if outside.is_ready():
                self.failure = None
                self._tell(f"ready {outside.place()}", time.monotonic() - began)
                self.ready.set()
                self._stopping.wait()
                return
            if outside.fault != told and time.monotonic() - began > _SILENT_SECONDS:
                told = outside.fault
                self.failure = PartFailed(f"{outside.name} {outside.place()} cannot be used: {told}")
                self._tell(f"{outside.place()}, cannot be used yet; waiting for it. {told}")
            self._pause(outside.poll_seconds)

    def _wait_for(self, event: threading.Event, latest: float = math.inf) -> None:
        while not event.wait(_LOOK_SECONDS) and time.monotonic() < latest:
            if self._stopping.is_set():
                raise Stopped(f"{self.service.name} was told to stop before it started.")

    def _pause(self, seconds: float, *, through_wakes: bool = False) -> None:
        if through_wakes:
            self._stopping.wait(seconds)
            return
        self._wake.wait(seconds)
        self._wake.clear()

    def _tell(self, text: str, seconds: float | None = None) -> None:
        self._say(self.service.name, text, seconds)


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "ended"
    if status < 0:
        return f"was killed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def _without_name(sentence: str, name: str) -> str:
    return sentence.removeprefix(f"{name} ")
