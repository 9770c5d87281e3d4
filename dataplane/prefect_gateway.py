"""The only door to Prefect for all that is not a flow: plain HTTP, so that nobody here imports Prefect.

Facts it relies on (Prefect 3.8): at most 200 rows per answer; an idempotency key is unique per flow for as
long as its run exists, and answers 201 when it made the run, 200 when it found it; its rules for changes of
state let a run whose process is gone hang for ever, so every change made here is forced and says why.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, Protocol
from uuid import UUID

import httpx

from console.environment import environment
from console.prefect_access import authorization, locked_out, prefect_token
from console.refusals import NotFound
from console.text.stored import storable
from dataplane import masking
from dataplane.errors import (
    DeploymentNotFound,
    FlowRunNotFound,
    PrefectAway,
    PrefectBusy,
    PrefectError,
    PrefectLocked,
    PrefectRefused,
)
from dataplane.models import Refresh

API_VERSION = "0.8.4"
MOST_ROWS = 200
#: 503 is Prefect's word for its SQLite file being locked by one of its own services; it passes. Every call may be
#: repeated: creating has its key, and states are set to what they are to be.
BUSY_PAUSES_SECONDS = (0.1, 0.3, 0.6)
#: Not now: it took too long, it is too early, or there are too many. Asking again at once would make it worse.
ASK_LATER: Final = frozenset({408, 425, 429})
LONGEST_WAIT: Final = timedelta(minutes=5)  # of what an answer may ask for; what is kept is not to lie for a day
STATE_TYPES: Final = (
    "SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED",
)  # fmt: skip
MOST_PAGES_SEARCHED: Final = 25  # of 200 lines; the rest is another page
SCHEMA_KEPT_SECONDS: Final = 60  # a deployment may be made anew, with other parameters
TERMINAL: Final = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
LEVELS: Final = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}


@dataclass(frozen=True)
class FlowRun:
    """One flow run as Prefect tells it. Instants are aware, UTC."""

    id: str
    name: str
    flow: str  # the flow's name; empty when it is unknown
    deployment: str  # the deployment's name; empty for a run without one
    state_type: str  # one of STATE_TYPES
    state_name: str  # Prefect's own word, e.g. Late, AwaitingRetry
    state_message: str
    state_at: datetime
    created_at: datetime
    parameters: dict[str, Any] = field(default_factory=dict)
    parameters_schema: dict[str, Any] = field(default_factory=dict)  # of its deployment; empty when it is unknown
    kept: Mapping[str, Any] = field(default_factory=dict)  # its parameters as our refresh keeps them; empty without one
    idempotency_key: str = ""
    run_count: int = 0
    expected_start_at: datetime | None = None  # of the next attempt, when one is scheduled
    started_at: datetime | None = None
    ended_at: datetime | None = None
    run_seconds: float = 0.0
    first_due_at: datetime | None = None  # when it was to begin first; no retry moves it

    @property
    def is_terminal(self) -> bool:
        return self.state_type in TERMINAL

    def declared(self, kept: Mapping[str, Any] | None = None) -> masking.Declared:
        """Return what is said of its parameters; `kept`: as our refresh keeps them."""
        return masking.Declared(self.flow, self.deployment, self.parameters_schema, kept or self.kept)

    @property
    def hidden_because(self) -> str:
        """Why nobody sees a value of its parameters, in a sentence; "" where that is not so."""
        return self.declared().unknown_because if self.parameters else ""


@dataclass(frozen=True)
class _Deployment:
    name: str
    parameters_schema: dict[str, Any]
    learned_at: float  # time.monotonic()


@dataclass(frozen=True)
class LogLine:
    """One line of a flow run's log, with secrets masked. `at`: aware, UTC."""

    at: datetime
    level: str  # debug, info, warning, error, critical
    message: str
    task_run_id: str  # empty for the flow's own


@dataclass(frozen=True)
class FlowRunPage:
    """A part of the list of flow runs, latest start first."""

    items: list[FlowRun]
    next: str | None  # cursor of the next page


@dataclass(frozen=True)
class LogPage:
    """A part of a flow run's log, oldest first."""

    items: list[LogLine]
    next: str | None  # cursor of the next page


class PrefectGateway(Protocol):
    """What Signalbox asks of Prefect.

    Every method raises PrefectAway when Prefect does not answer (or answers 5xx) in time, PrefectBusy of these when
    it says that it cannot now, and PrefectRefused when it says no.
    """

    def health(self) -> None:
        """Return when Prefect serves us: it knows who we are and reads its database."""
        ...

    def last_polled(self, flow: str, deployment: str) -> datetime | None:
        """Return when work of the deployment was last asked for, on Prefect's clock. Raises DeploymentNotFound."""
        ...

    def create_flow_run(
        self, *, flow: str, deployment: str, parameters: Mapping[str, Any], idempotency_key: str, name: str
    ) -> FlowRun:
        """Create the flow run, or return the one that has the key already. Raises DeploymentNotFound."""
        ...

    def flow_run(self, flow_run_id: str) -> FlowRun:
        """Raises FlowRunNotFound."""
        ...

    def flow_runs(
        self,
        *,
        states: Sequence[str] = (),
        flow: str = "",
        limit: int = 50,
        cursor: str = "",
        due_before: datetime | None = None,
    ) -> FlowRunPage:
        """Return flow runs, latest start first. `states`: of STATE_TYPES. `due_before` hides later ones."""
        ...

    def next_flow_run(self, after: datetime) -> FlowRun | None:
        """Return the scheduled flow run that is due first from this moment (aware) on; None: none is."""
        ...

    def logs(self, flow_run_id: str, *, limit: int = 200, cursor: str = "", search: str = "") -> LogPage:
        """Return log lines, oldest first; `search`: those that hold these words. Raises FlowRunNotFound."""
        ...

    def crash(self, flow_run_id: str, message: str) -> None:
        """Record that the flow run's process is gone, whatever Prefect believes. Raises FlowRunNotFound."""
        ...

    def run_again(self, flow_run_id: str, message: str, *, after: timedelta) -> None:
        """Schedule the same flow run again. At least 5 s ahead, else Prefect's runner may fall over it."""
        ...

    def cancel(self, flow_run_id: str, message: str) -> None:
        """Record that the flow run is cancelled; its process is not stopped by this."""
        ...


class HttpPrefectGateway:
    """The real one. Thread-safe; waits 1 s for a connection, and for an answer SIGNALBOX_PREFECT_SECONDS."""

    def __init__(
        self,
        api_url: str,
        *,
        timeout: httpx.Timeout | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.api_url = api_url
        self._credentials = authorization(*prefect_token())
        self._http = httpx.Client(
            base_url=api_url,
            timeout=timeout or httpx.Timeout(environment().prefect_answer_seconds, connect=1.0),
            headers={"X-Prefect-API-Version": API_VERSION, **self._credentials},
            transport=transport,
        )
        self._flow_names: dict[str, str] = {}  # id -> name; it never changes in Prefect
        self._deployments: dict[str, _Deployment] = {}

    def close(self) -> None:
        self._http.close()

    def health(self) -> None:
        try:
            self.call("POST", "/flows/filter", {"limit": 1})  # its /health needs neither an account nor a database
        except NotThere as exc:
            raise PrefectAway(f"What answers at {self.api_url} is not Prefect.") from exc

    def last_polled(self, flow: str, deployment: str) -> datetime | None:
        try:
            return maybe_instant(self.call("GET", f"/deployments/name/{flow}/{deployment}").get("last_polled"))
        except NotThere as exc:
            raise DeploymentNotFound(f"Prefect does not know the deployment {flow}/{deployment} yet.") from exc

    def create_flow_run(
        self, *, flow: str, deployment: str, parameters: Mapping[str, Any], idempotency_key: str, name: str
    ) -> FlowRun:
        try:
            found = self.call("GET", f"/deployments/name/{flow}/{deployment}")
            body = {"parameters": dict(parameters), "idempotency_key": idempotency_key, "name": name}
            made = self.call("POST", f"/deployments/{found['id']}/create_flow_run", body)
        except NotThere as exc:
            raise DeploymentNotFound(f"Prefect does not know the deployment {flow}/{deployment} yet.") from exc
        return self.flow_runs_from([made])[0]

    def flow_run(self, flow_run_id: str) -> FlowRun:
        return self.flow_runs_from([self._about(flow_run_id, "GET", "")])[0]

    def flow_runs(
        self,
        *,
        states: Sequence[str] = (),
        flow: str = "",
        limit: int = 50,
        cursor: str = "",
        due_before: datetime | None = None,
    ) -> FlowRunPage:
        limit, offset = min(limit, MOST_ROWS), offset_of(cursor)
        wanted: dict[str, Any] = {}
        if states:
            wanted["state"] = {"type": {"any_": list(states)}}
        if due_before is not None:
            wanted["expected_start_time"] = {"before_": due_before.isoformat()}
        body: dict[str, Any] = {
            "limit": limit,
            "offset": offset,
            "sort": "EXPECTED_START_TIME_DESC",
            "flow_runs": wanted,
        }
        if flow:
            body["flows"] = {"name": {"any_": [flow]}}
        rows: list[dict[str, Any]] = self.call("POST", "/flow_runs/filter", body)
        return FlowRunPage(self.flow_runs_from(rows), next_after(offset, limit, len(rows)))

    def next_flow_run(self, after: datetime) -> FlowRun | None:
        due = {"next_scheduled_start_time": {"after_": after.isoformat()}, "state": {"type": {"any_": ["SCHEDULED"]}}}
        body = {"limit": 1, "sort": "NEXT_SCHEDULED_START_TIME_ASC", "flow_runs": due}
        found = self.flow_runs_from(self.call("POST", "/flow_runs/filter", body))
        return found[0] if found else None

    def logs(self, flow_run_id: str, *, limit: int = 200, cursor: str = "", search: str = "") -> LogPage:
        run_id, limit, offset = uuid_of(flow_run_id), min(limit, MOST_ROWS), offset_of(cursor)
        secrets = self.secrets_of(run_id)  # also says that there is no such run
        if not search:
            lines = self._log_lines(run_id, secrets, limit, offset)
            return LogPage(lines, next_after(offset, limit, len(lines)))
        # Searched here, in what is shown: a search of Prefect's own would tell where a secret stands.
        found: list[LogLine] = []
        for _ in range(MOST_PAGES_SEARCHED):
            page = self._log_lines(run_id, secrets, MOST_ROWS, offset)
            for line in page:
                offset += 1
                if search.lower() in line.message.lower():
                    found.append(line)
                    if len(found) == limit:
                        return LogPage(found, str(offset))
            if len(page) < MOST_ROWS:
                return LogPage(found, None)
        return LogPage(found, str(offset))

    def _log_lines(self, run_id: str, secrets: Sequence[str], limit: int, offset: int) -> list[LogLine]:
        wanted = {"flow_run_id": {"any_": [run_id]}}
        body = {"limit": limit, "offset": offset, "sort": "TIMESTAMP_ASC", "logs": wanted}
        rows: list[dict[str, Any]] = self.call("POST", "/logs/filter", body)
        return [
            LogLine(
                at=instant_of(row["timestamp"]),
                level=LEVELS.get(row["level"], "info"),
                message=masking.without(row["message"], secrets),
                task_run_id=row.get("task_run_id") or "",
            )
            for row in rows
        ]

    def secrets_of(self, flow_run_id: str, *, are_known: bool = False) -> list[str]:
        """Return the texts that nobody is to read of what the flow run says. Raises FlowRunNotFound.

        `are_known`: only those that are known to be secret, also while nobody can say what else is.
        """
        row = self._about(flow_run_id, "GET", "")
        self._learn_flows({row["flow_id"]})
        self._learn_deployments({row["deployment_id"]} - {None})
        kept = self._kept([row]).get(row["id"])
        return masking.secret_texts(row.get("parameters") or {}, self._declared(row, kept), are_known=are_known)

    def _kept(self, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return the parameters of somebody else's flow runs as our refreshes keep them, by flow run; one query."""
        asked = [row["id"] for row in rows if row.get("parameters") and not self._declared(row).is_ours]
        if not asked:
            return {}
        # A version that a program told of has a refresh too, which keeps none.
        known = Refresh.objects.filter(prefect_flow_run_id__in=asked).exclude(parameters={})
        return dict(known.values_list("prefect_flow_run_id", "parameters"))

    def _declared(self, row: dict[str, Any], kept: Mapping[str, Any] | None = None) -> masking.Declared:
        """Return what has been learned of the flow run's flow and deployment; `kept`: its parameters as kept here."""
        deployment = self._deployments.get(row.get("deployment_id") or "")
        return masking.Declared(
            flow=self._flow_names.get(row["flow_id"], ""),
            deployment=deployment.name if deployment else "",
            schema=deployment.parameters_schema if deployment else {},
            kept=kept or {},
        )

    def crash(self, flow_run_id: str, message: str) -> None:
        self._set_state(flow_run_id, {"type": "CRASHED", "name": "Crashed", "message": message})

    def run_again(self, flow_run_id: str, message: str, *, after: timedelta) -> None:
        due_at = datetime.now(UTC) + max(after, timedelta(seconds=5))
        details = {"scheduled_time": due_at.isoformat()}
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": message, "state_details": details}
        self._set_state(flow_run_id, state)

    def cancel(self, flow_run_id: str, message: str) -> None:
        self._set_state(flow_run_id, {"type": "CANCELLED", "name": "Cancelled", "message": message})

    def _set_state(self, flow_run_id: str, state: dict[str, Any]) -> None:
        answer = self._about(flow_run_id, "POST", "/set_state", {"state": state, "force": True})
        if answer["status"] != "ACCEPT":
            reason = (answer.get("details") or {}).get("reason") or answer["status"]
            raise PrefectRefused(f"Prefect did not take the state {state['name']}: {reason}")

    def _about(self, flow_run_id: str, method: str, path: str, body: Any = None) -> Any:
        """Call something below one flow run. Raises FlowRunNotFound."""
        try:
            return self.call(method, f"/flow_runs/{uuid_of(flow_run_id)}{path}", body)
        except NotThere as exc:
            raise FlowRunNotFound(f"Prefect knows no flow run {flow_run_id}.") from exc

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON; every failure comes out as one of our errors."""
        response = self._request(method, path, body)
        for pause in BUSY_PAUSES_SECONDS:
            if response.status_code != 503:
                break
            time.sleep(pause)
            response = self._request(method, path, body)
        if response.status_code == 404:
            raise NotThere
        if words := locked_out(response.status_code, bool(self._credentials)):
            raise PrefectLocked(f"Prefect at {self.api_url} does not let us in. {words}")
        if response.status_code == 503 and _is_of_prefect(response):
            raise PrefectBusy(f"Prefect at {self.api_url} is busy: it answers 503, as while its database is locked.")
        if response.status_code in ASK_LATER:
            told = f"Prefect at {self.api_url} cannot serve us now ({response.status_code}): {_reason(response)}"
            wait = _retry_after(response.headers.get("Retry-After", ""), datetime.now(UTC))
            raise PrefectBusy(told, retry_after=wait)
        if response.status_code >= 500:
            raise PrefectAway(f"Prefect answers {response.status_code} at {self.api_url}.")
        if response.status_code >= 400:
            raise PrefectRefused(f"Prefect refused ({response.status_code}): {_reason(response)}")
        if response.status_code == 204:
            return None
        try:
            return response.json()
        except ValueError as exc:
            raise PrefectAway(f"What answers at {self.api_url} is not Prefect.") from exc

    def _request(self, method: str, path: str, body: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.HTTPError as exc:
            raise PrefectAway(f"Prefect does not answer at {self.api_url}: {type(exc).__name__}.") from exc

    def flow_runs_from(self, rows: Sequence[dict[str, Any]]) -> list[FlowRun]:
        self._learn_flows({row["flow_id"] for row in rows})
        self._learn_deployments({row["deployment_id"] for row in rows if row.get("deployment_id")})
        kept = self._kept(rows)
        return [self._flow_run_from(row, kept.get(row["id"])) for row in rows]

    def _learn_flows(self, ids: set[str]) -> None:
        for row in self._found("flows", ids - self._flow_names.keys()):
            self._flow_names[row["id"]] = row["name"]

    def _learn_deployments(self, ids: set[str]) -> None:
        now = time.monotonic()
        known = {one for one, found in self._deployments.items() if now - found.learned_at < SCHEMA_KEPT_SECONDS}
        for row in self._found("deployments", ids - known):
            schema = row.get("parameter_openapi_schema") or {}
            self._deployments[row["id"]] = _Deployment(row["name"], schema, learned_at=now)

    def _found(self, kind: str, ids: set[str]) -> list[dict[str, Any]]:
        """Return what Prefect has under these ids, in one call at most."""
        if not ids:
            return []
        wanted = {kind: {"id": {"any_": sorted(ids)}}, "limit": MOST_ROWS}
        rows: list[dict[str, Any]] = self.call("POST", f"/{kind}/filter", wanted)
        return rows

    def _flow_run_from(self, row: dict[str, Any], kept: Mapping[str, Any] | None) -> FlowRun:
        state, declared, parameters = row.get("state") or {}, self._declared(row, kept), row.get("parameters") or {}
        secrets = masking.secret_texts(parameters, declared)
        created_at = instant_of(row["created"])
        return FlowRun(
            id=row["id"],
            name=storable(masking.without(row["name"], secrets)),
            flow=declared.flow,
            deployment=declared.deployment,
            state_type=row.get("state_type") or "PENDING",
            state_name=storable(row.get("state_name") or "Pending"),
            state_message=storable(masking.without(state.get("message") or "", secrets)),
            state_at=instant_of(state["timestamp"]) if state else created_at,
            created_at=created_at,
            parameters=parameters,
            parameters_schema=declared.schema,
            kept=kept or {},
            idempotency_key=row.get("idempotency_key") or "",
            run_count=row.get("run_count") or 0,
            expected_start_at=maybe_instant(row.get("next_scheduled_start_time") or row.get("expected_start_time")),
            started_at=maybe_instant(row.get("start_time")),
            ended_at=maybe_instant(row.get("end_time")),
            run_seconds=float(row.get("total_run_time") or 0.0),
            first_due_at=maybe_instant(row.get("expected_start_time")),
        )


class NotThere(PrefectError, NotFound):
    """Prefect answered 404; whoever called says what was not found."""

    what = "such thing in Prefect"


def uuid_of(text: str) -> str:
    """Return the id in Prefect's form; nothing else is ever put into a path."""
    try:
        return str(UUID(text))
    except ValueError as exc:
        raise FlowRunNotFound(f"Prefect knows no flow run {text[:40]!r}.") from exc


def offset_of(cursor: str) -> int:
    """Return how many rows a cursor skips, none when it is none of ours."""
    return int(cursor) if cursor.isdecimal() and len(cursor) < 10 else 0


def next_after(offset: int, limit: int, found: int) -> str | None:
    """Return the cursor behind a page of `limit` rows of which `found` were there; a full page may be the last one."""
    return str(offset + limit) if found == limit else None


def instant_of(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def maybe_instant(text: str | None) -> datetime | None:
    return instant_of(text) if text else None


def _is_of_prefect(response: httpx.Response) -> bool:
    """Return whether Prefect itself speaks, and not what stands before a server that is away."""
    try:
        body = response.json()
    except ValueError:
        return False
    return isinstance(body, dict) and "exception_message" in body


def _retry_after(told: str, now: datetime) -> timedelta | None:
    """Return how long the header asks us to wait, in seconds or until a date, at most LONGEST_WAIT; None: no word."""
    try:
        wait = timedelta(seconds=int(told)) if told.isdecimal() else parsedate_to_datetime(told) - now
    except OverflowError:
        return LONGEST_WAIT
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
    return min(max(wait, timedelta()), LONGEST_WAIT)


def _reason(response: httpx.Response) -> str:
    """Return what Prefect says about a refusal, in one line."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    detail = body.get("detail") or body.get("exception_detail") or body if isinstance(body, dict) else body
    return str(detail)[:300]


@cache
def _gateway_at(api_url: str) -> HttpPrefectGateway:
    return HttpPrefectGateway(api_url)


def gateway() -> PrefectGateway:
    """Return this process's door to Prefect. Raises PrefectAway while no address is known."""
    api_url = environment().prefect_api_url
    if not api_url:
        raise PrefectAway("No Prefect server is known here: PREFECT_API_URL is not set.")
    return _gateway_at(api_url)
