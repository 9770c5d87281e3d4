"""What `manage.py serve_flows` runs: the runner, the dispatcher, the watchers and the heartbeat.

Six loops, one thread each, none of which may end the others. Each waits for Prefect as long as it takes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import websockets.exceptions
from django.db import DatabaseError, close_old_connections, connection, transaction
from websockets.sync.client import connect as connect_websocket

from console import health
from console.backoff import Backoff
from console.environment import PROJECT, environment
from console.live.announce import announce
from console.prefect_access import authorization, locked_out, prefect_token
from dataplane import selectors
from dataplane.catalogue import CATALOGUE
from dataplane.deployments import deployments
from dataplane.embedding import names_a_hosted_one
from dataplane.errors import DataplaneError, DeploymentNotFound, PrefectAway, PrefectError, PrefectLocked
from dataplane.models import Dataset, Refresh
from dataplane.moving import MovingRuns
from dataplane.prefect_gateway import PrefectGateway, gateway
from dataplane.refreshes import dispatch
from dataplane.refreshes.follow import Follower
from dataplane.refreshes.keys import CHANNEL
from dataplane.refreshes.request import request_refresh
from dataplane.refreshes.watch import RefreshWatch

BEAT_SECONDS = 5.0
LOOK_SECONDS = 5.0  # while some refresh is open
IDLE_LOOK_SECONDS = 30.0
MOVING_LOOK_SECONDS = 2.0  # at what flow runs under way do, for all pages that show them
OTHERS_LOOK_SECONDS = 15.0  # at other people's deployments while none of their refreshes is open
WAKE_SECONDS = 30.0  # the dispatcher looks for itself at least this often
UNSENT_SECONDS = 0.5  # while something waits for its next attempt
PAUSES = Backoff(0.5, 2)  # short: what waits for Prefect waits for this too
UNSERVED = 30.0  # seconds without a question for work until flows count as not served
STOP_SECONDS = 4.0  # for the loops to end
#: what the runner and its flow runs may know; no Temporal address among it
PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "VIRTUAL_ENV",
    "SIGNALBOX_HANDBOOK",
    "SIGNALBOX_EMBEDDER",
    "SIGNALBOX_SHOP_URL",
    "HTTPS_PROXY",
    "NO_PROXY",
)
#: what hosted embedding models are reached by; passed on only where SIGNALBOX_EMBEDDER names one
FOR_HOSTED_EMBEDDERS = (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_ENDPOINT",
    "OPENAI_API_VERSION",
    "COHERE_API_KEY",
    "MISTRAL_API_KEY",
    "GOOGLE_API_KEY",
)
_RUNNER = [sys.executable, "-m", "dataplane.flows.serving"]
logger = logging.getLogger(__name__)


class FlowService:
    """Serves the flows until `stop` is called."""

    def __init__(self, prefect: Callable[[], PrefectGateway] = gateway) -> None:
        self._prefect = prefect
        self._stopping = threading.Event()
        self._moves = threading.Event()  # some flow run has changed its state
        self._runs_flows = False
        self._hears_prefect = False
        # Prefect's runner does not get over the server's absence: it polls seldom and hears no cancellation.
        self._runner_is_deaf = False
        self._fault = ""  # why Prefect's events do not come
        self._served = Served()
        self._follower: Follower | None = None

    def run(self) -> None:
        """Start the loops and wait. Returns within 5 s of `stop`."""
        loops = {
            "runner": self._keep_runner,
            "dispatcher": self._dispatch,
            "watcher": self._watch,
            "follower": self._follow_others,
            "events": self._follow_events,
            "moving": self._tell_what_moves,
        }
        threads = [
            threading.Thread(target=self._keep, args=(name, loop), name=name, daemon=True)
            for name, loop in loops.items()
        ]
        for thread in threads:
            thread.start()
        self._keep("heartbeat", self._beat)
        for thread in threads:
            thread.join(timeout=STOP_SECONDS)

    def stop(self, *_: Any) -> None:
        """Ask all loops to end; safe in a signal handler."""
        self._stopping.set()
        self._moves.set()

    def _keep(self, name: str, loop: Callable[[], None]) -> None:
        """Run the loop again and again, with growing pauses while it fails."""
        failures, said = 0, ""
        while not self._stopping.is_set():
            began_at = datetime.now(UTC)
            try:
                close_old_connections()
                loop()
            except (PrefectError, DatabaseError, psycopg.Error) as exc:
                if str(exc) != said:  # once, not every two seconds for a night
                    logger.info("%s: %s", name, exc)
                said = str(exc)
            except Exception:
                logger.exception("%s failed and is started again", name)
            finally:
                connection.close()
            if datetime.now(UTC) - began_at > timedelta(seconds=BEAT_SECONDS):
                failures, said = 0, ""
            failures += 1
            self._stopping.wait(PAUSES.pause(failures))

    # the heartbeat

    def _beat(self) -> None:
        while True:
            close_old_connections()
            ok, words = self._state()
            health.beat("flows", words, ok=ok)
            if self._stopping.wait(BEAT_SECONDS):
                health.forget("flows")
                return

    def _state(self) -> tuple[bool, str]:
        """Return whether what is due is run now, and in words what this process does."""
        if not self._hears_prefect:
            return False, f"waiting for Prefect: {self._fault}" if self._fault else "waiting for Prefect"
        if not self._runs_flows:
            return False, "starting the runner"
        late = self._served.late(self._prefect)
        return not late, late or "serving flows"

    # the runner

    def _keep_runner(self) -> None:
        """Keep one runner process. It waits for Prefect by itself, its slow imports done meanwhile."""
        runner = subprocess.Popen(
            _RUNNER,
            env=runner_environment(os.environ),
            cwd=PROJECT,
            stdin=subprocess.PIPE,  # closed by our end: see `dataplane.flows.serving`
            start_new_session=True,
        )
        self._runs_flows, self._runner_is_deaf = True, False
        try:
            while runner.poll() is None and not self._stopping.wait(0.5):
                if self._runner_is_deaf and not is_any_running():
                    logger.info("the runner lost Prefect and is started anew")
                    return
        finally:
            self._runs_flows = False
            end_group(runner)
        if not self._stopping.is_set():
            logger.warning("the runner ended with %s and is started again", runner.returncode)

    # the dispatcher

    def _dispatch(self) -> None:
        """Send what is due, then sleep until a new refresh announces itself, or a failed one is due again."""
        request_first_refreshes()
        with psycopg.connect(environment().database_url, autocommit=True, connect_timeout=5) as listener:
            listener.execute(f"LISTEN {CHANNEL}")
            while not self._stopping.is_set():
                close_old_connections()
                dispatch.dispatch_all(self._prefect())
                self._sleep_until_woken(listener)

    def _sleep_until_woken(self, listener: psycopg.Connection[Any]) -> None:
        unsent = Refresh.objects.filter(status=Refresh.Status.SCHEDULED, prefect_flow_run_id="").exists()
        left = UNSENT_SECONDS if unsent else WAKE_SECONDS
        while left > 0 and not self._stopping.is_set():
            if list(listener.notifies(timeout=UNSENT_SECONDS, stop_after=1)):
                return
            left -= UNSENT_SECONDS

    # the watcher

    def _watch(self) -> None:
        """Look at open refreshes, often while there are some."""
        watch = RefreshWatch(self._prefect())
        while True:
            close_old_connections()
            watch.sweep()
            for _ in range(round(IDLE_LOOK_SECONDS / LOOK_SECONDS)):
                watch.look()
                if self._stopping.wait(LOOK_SECONDS):
                    return

    # other people's deployments

    def _follow_others(self) -> None:
        """Look at what is registered, often while some refresh of it is open."""
        if self._follower is None:
            # Whoever serves others' flows may have been without Prefect until now: it may be as new as this process.
            self._follower = Follower(self._prefect(), deployments(), back_at=datetime.now(UTC))
        follower = self._follower  # the same after an outage, of which it knows
        while True:
            close_old_connections()
            pause = LOOK_SECONDS if follower.look() else OTHERS_LOOK_SECONDS
            if self._stopping.wait(pause):
                return

    # what open pages show

    def _tell_what_moves(self) -> None:
        """Look at the flow runs under way, often while there are some, and at once when one begins."""
        moving = MovingRuns(self._prefect(), deployments())
        while not self._stopping.is_set():
            close_old_connections()
            self._moves.clear()
            if moving.look():
                self._stopping.wait(MOVING_LOOK_SECONDS)
            else:
                self._moves.wait(IDLE_LOOK_SECONDS)

    # Prefect's events

    def _follow_events(self) -> None:
        """Tell open pages, and look at the refresh at once, when a flow run changes its state."""
        watch = RefreshWatch(self._prefect())
        api_url = environment().prefect_api_url
        auth_string, api_key = prefect_token()
        address = api_url.replace("http", "ws", 1) + "/events/out"
        try:
            with connect_websocket(
                address,
                subprotocols=[_PREFECT],
                additional_headers=authorization(auth_string, api_key),  # for what stands before the server
                open_timeout=5,
                close_timeout=1,
            ) as socket:
                socket.send(json.dumps({"type": "auth", "token": auth_string or api_key or None}))
                socket.recv(timeout=5)
                socket.send(json.dumps(_events_since(datetime.now(UTC))))
                self._hears_prefect, self._fault = True, ""
                _tell("data")  # what happened meanwhile is not known
                dispatch.send_soon()
                while not self._stopping.is_set():
                    try:
                        message = socket.recv(timeout=1.0)
                    except TimeoutError:
                        continue
                    self._heard(watch, json.loads(message))
        except (OSError, TimeoutError, websockets.exceptions.WebSocketException) as exc:
            if refused := _locked_out(exc, bool(auth_string or api_key)):
                self._fault = refused
                raise PrefectLocked(f"Prefect's events do not come. {refused}") from exc
            self._fault = f"its events do not come: {str(exc) or type(exc).__name__}"
            raise PrefectAway(f"Prefect's events do not come: {type(exc).__name__}.") from exc
        finally:
            self._runner_is_deaf |= self._hears_prefect
            self._hears_prefect = False

    def _heard(self, watch: RefreshWatch, message: dict[str, Any]) -> None:
        flow_run = (message.get("event") or {}).get("resource", {}).get("prefect.resource.id", "")
        if not flow_run.startswith("prefect.flow-run."):
            return
        close_old_connections()
        flow_run_id = flow_run.removeprefix("prefect.flow-run.")
        _tell("data", f"flow-run:{flow_run_id}")
        self._moves.set()
        watch.look_at_flow_run(flow_run_id)
        Follower(watch.prefect, deployments()).look_at_flow_run(flow_run_id)


def _tell(*topics: str) -> None:
    with transaction.atomic():
        announce(*topics)


class Served:
    """Whether somebody asks Prefect for what is due. Prefect is asked: it keeps when that was.

    A runner asks every 2 s. One that is frozen or has lost Prefect is a living process all the same.
    """

    def __init__(self) -> None:
        self._last: dict[str, datetime | None] = {}  # deployment -> on Prefect's clock
        self._moved_at = time.monotonic()

    def late(self, prefect: Callable[[], PrefectGateway]) -> str:
        """Return in a sentence that nobody has asked for some time, "" while somebody does."""
        try:
            door = prefect()
            now = {f"{e.flow}/{e.deployment}": door.last_polled(e.flow, e.deployment) for e in CATALOGUE.values()}
        except DeploymentNotFound:
            now = {}  # the runner registers it when it starts
        except PrefectError as exc:
            return f"waiting for Prefect: {exc}"
        if now != self._last:
            self._last, self._moved_at = now, time.monotonic()
        silent = time.monotonic() - self._moved_at
        return f"the runner has not asked for work for {silent:.0f} s; what is due is late" if silent > UNSERVED else ""


_REFUSED = 1008  # how Prefect closes a socket whose token is not right
_PREFECT: Any = "prefect"  # Any: the library's own NewType for names of subprotocols


def _locked_out(exc: Exception, had_credentials: bool) -> str:
    """Return in words that Prefect does not let us in, "" when the connection ended for another reason."""
    if isinstance(exc, websockets.exceptions.InvalidStatus):
        return locked_out(exc.response.status_code, had_credentials)
    if isinstance(exc, websockets.exceptions.ConnectionClosed) and exc.rcvd is not None and exc.rcvd.code == _REFUSED:
        return locked_out(401, had_credentials)
    return ""


def _events_since(moment: datetime) -> dict[str, Any]:
    """Return Prefect's filter for changes of flow runs; the last minute is sent again after a gap."""
    occurred = {
        "since": (moment - timedelta(minutes=1)).isoformat(),
        "until": (moment + timedelta(days=365)).isoformat(),
    }
    return {
        "type": "filter",
        "backfill": True,
        "filter": {"event": {"prefix": ["prefect.flow-run."]}, "occurred": occurred},
    }


def request_first_refreshes() -> None:
    """Ask for the first refresh of every dataset that was never published and has none under way.

    A dry run publishes nothing, so it is none. One that is refused is logged: everything else is sent all the same.
    """
    published = set(Dataset.objects.filter(current_version__isnull=False).values_list("name", flat=True))
    open_ones = Refresh.objects.filter(status__in=Refresh.OPEN, is_dry_run=False)
    under_way = set(open_ones.values_list("dataset_id", flat=True))
    wanted = {entry.name for entry in CATALOGUE.values() if entry.at_first_start}
    for name in sorted(wanted - published - under_way):
        try:
            request_refresh(dataset=name, key=selectors.suggested_key(name), user=None)
        except DataplaneError as exc:
            logger.warning("the first refresh of %s was not asked for: %s", name, exc)


def is_any_running() -> bool:
    """Return whether a flow run of ours is at work, here or elsewhere. Others' runs are no business of our runner."""
    close_old_connections()
    return Refresh.objects.filter(deployment="", status=Refresh.Status.RUNNING).exists()


def runner_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what the runner and its flow runs are told. Without an address Prefect would start a server of
    its own and lose the runs, so that is switched off as well.
    """
    ours = environment()
    credentials = dict(zip(("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"), prefect_token(), strict=True))
    passed_on = (*PASSED_ON, *FOR_HOSTED_EMBEDDERS) if names_a_hosted_one(ours.embedder) else PASSED_ON
    return {
        **{name: given[name] for name in passed_on if name in given},
        "PYTHONPATH": str(PROJECT),
        "DATABASE_URL": ours.database_url,
        "SIGNALBOX_HOME": str(ours.home),
        "SIGNALBOX_FAULTS": str(ours.faults).lower(),
        "SIGNALBOX_SHOP_URL": ours.shop_url,
        "PREFECT_API_URL": ours.prefect_api_url,
        **{name: value for name, value in credentials.items() if value},
        "PREFECT_HOME": str(ours.home / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",  # seconds; logs are read live
        "PREFECT_LOGGING_COLORS": "false",
    }


def end_group(runner: subprocess.Popen[bytes]) -> None:
    """Kill the runner and every flow run it started.

    Asking first would gain nothing: Prefect's runner kills its flow runs as well and leaves them Running. A
    flow run may be killed at any point; `dataplane.refreshes.watch` starts it again, here or elsewhere.
    """
    with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
        os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    if runner.stdin is not None:
        runner.stdin.close()
