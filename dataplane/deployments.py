"""What Signalbox asks of Prefect about other people's deployments: plain HTTP, through `dataplane.prefect_gateway`.

Facts it relies on (Prefect 3.8): a run that is told to cancel, and whose process is gone, stays Cancelling; the slot of
its deployment hangs on a lease that stands in its states; artifacts are found by flow run, for "latest" is one per key
over all flows; an event is kept for a week and told at least once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final
from urllib.parse import quote

from dataplane import masking
from dataplane.errors import DeploymentNotFound
from dataplane.prefect_gateway import (
    MOST_ROWS,
    STATE_TYPES,
    TERMINAL,
    FlowRun,
    HttpPrefectGateway,
    NotThere,
    gateway,
    instant_of,
    maybe_instant,
    next_after,
    offset_of,
    uuid_of,
)
from dataplane.schedules import ScheduleEntry

ASSETS: Final = "prefect.asset."
HEARTBEAT: Final = "prefect.flow-run.heartbeat"
EVENTS_A_PAGE: Final = 50
MOST_PAGES: Final = 20
MOST_COLUMNS: Final = 100  # of a table that is shown
FAILED: Final = ("FAILED", "CRASHED")
NOT_ENDED: Final = tuple(state for state in STATE_TYPES if state not in TERMINAL)
ASKED_TO_CANCEL: Final = "Asked for in Signalbox."  # by this message the runs are known that are to be ended by force
_LEASE: Final = "deployment_concurrency_lease_id"


@dataclass(frozen=True)
class PrefectSchedule:
    """A schedule as it stands in Prefect. An interval or a rule has its words in place of a cron line."""

    id: str
    entry: ScheduleEntry
    is_cron: bool
    parameters: dict[str, Any]  # of its runs alone


@dataclass(frozen=True)
class Deployment:
    """One deployment as Prefect tells it."""

    id: str
    flow: str
    name: str
    schema: dict[str, Any]
    defaults: dict[str, Any]
    is_ready: bool  # Prefect's own word: somebody asked for its work within a minute
    is_paused: bool
    last_polled_at: datetime | None
    work_pool: str  # empty: served by a process of its own
    work_queue: str
    slots: int | None  # how many of its runs may run at once; None: any number
    slots_taken: int
    schedules: list[PrefectSchedule] = field(default_factory=list)


@dataclass(frozen=True)
class Artifact:
    """Something that a flow run left for people to read."""

    id: str
    key: str
    kind: str  # table, markdown, progress, image or Prefect's own word
    description: str
    data: Any  # as Prefect has it: a text, a number, or JSON in a text
    task_run_id: str
    at: datetime


@dataclass(frozen=True)
class TaskRun:
    """One task of a flow run. Instants are aware, UTC."""

    id: str
    name: str
    state_type: str
    state_name: str
    state_message: str
    run_count: int
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float


@dataclass(frozen=True)
class ArtifactPage:
    """A part of what a flow run left, newest first."""

    items: list[Artifact]
    next: str | None  # cursor of the next page


@dataclass(frozen=True)
class TaskRunPage:
    """A part of a flow run's tasks, in the order they were to begin."""

    items: list[TaskRun]
    next: str | None  # cursor of the next page


@dataclass(frozen=True)
class WorkQueue:
    """One queue of a work pool. `last_polled_at`: when it was last asked for work, aware, UTC; None: never."""

    name: str
    is_paused: bool
    last_polled_at: datetime | None


@dataclass(frozen=True)
class Worker:
    """Who serves a work pool. `last_heartbeat_at`: its last sign of life, aware, UTC; None: it never gave one."""

    name: str
    is_online: bool
    last_heartbeat_at: datetime | None


@dataclass(frozen=True)
class WorkPool:
    """One of Prefect's work pools, with who serves it and the queues that they serve."""

    name: str
    kind: str  # process, kubernetes ...
    status: str  # ready, not_ready, paused
    workers: list[Worker]
    queues: list[WorkQueue]


@dataclass(frozen=True)
class Event:
    """One event of Prefect's."""

    id: str
    name: str
    at: datetime
    resource: str  # its id
    payload: dict[str, Any]
    related: list[dict[str, str]]

    def related_ids(self, role: str) -> list[str]:
        """Return the ids of related resources with this role, e.g. `flow-run`, `asset`."""
        return [one["prefect.resource.id"] for one in self.related if one.get("prefect.resource.role") == role]


class PrefectDeployments:
    """Deployments, and what their runs leave. Raises PrefectAway and PrefectRefused as the gateway does."""

    def __init__(self, door: HttpPrefectGateway) -> None:
        self._door = door

    def find(self, flow: str, deployment: str) -> Deployment:
        """Return the deployment. Raises DeploymentNotFound."""
        path = f"/deployments/name/{quote(flow, safe='')}/{quote(deployment, safe='')}"
        try:
            row = self._door.call("GET", path)
        except NotThere as exc:
            raise DeploymentNotFound(
                f"Prefect knows no deployment {flow}/{deployment}: it was removed or renamed, or not deployed yet."
            ) from exc
        limit = row.get("global_concurrency_limit") or {}
        return Deployment(
            id=row["id"],
            flow=flow,
            name=row["name"],
            schema=row.get("parameter_openapi_schema") or {},
            defaults=row.get("parameters") or {},
            is_ready=row.get("status") == "READY",
            is_paused=bool(row.get("paused")),
            last_polled_at=maybe_instant(row.get("last_polled")),
            work_pool=row.get("work_pool_name") or "",
            work_queue=row.get("work_queue_name") or "",
            slots=limit.get("limit"),
            slots_taken=limit.get("active_slots") or 0,
            schedules=[_schedule(one) for one in row.get("schedules") or []],
        )

    def set_schedules(
        self, deployment: Deployment, wanted: Sequence[ScheduleEntry], parameters: Mapping[str, Any]
    ) -> bool:
        """Let the deployment follow exactly these schedules; return whether anything had to be changed.

        New ones come before old ones go, so that a fault in between leaves one too many and never none. An old one is
        made inactive first, and goes at a later call: with one of them Prefect deletes every run of the deployment
        that its schedules made and nobody has begun, those that are late too.
        `parameters`: of each run that they make, besides what stands in the deployment.
        """
        path, given = f"/deployments/{uuid_of(deployment.id)}/schedules", dict(parameters)
        rows = [_schedule(row) for row in self._door.call("GET", path)]
        there = {one.entry.times for one in rows if one.parameters == given}
        missing = [one for one in wanted if one.times not in there]
        if missing:
            cron = [{"cron": one.cron, "timezone": one.timezone} for one in missing]
            body = [
                {"schedule": line, "active": one.is_active, "parameters": given}
                for line, one in zip(cron, missing, strict=True)
            ]
            self._door.call("POST", path, body)
        kept = {one.times for one in wanted}
        surplus = [one for one in rows if one.parameters != given or one.entry.times not in kept]
        followed = [one for one in surplus if one.entry.is_active]
        for one in followed:
            self._door.call("PATCH", f"{path}/{uuid_of(one.id)}", {"active": False})
        if surplus and not followed and not self._has_due(deployment):
            for one in surplus:
                self._door.call("DELETE", f"{path}/{uuid_of(one.id)}")
        return bool(missing or followed)

    def _has_due(self, deployment: Deployment) -> bool:
        """Return whether a run of the deployment is late, or due within seconds, that nobody has begun."""
        soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
        due = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": soon}}
        of_deployment = {"deployments": {"id": {"any_": [deployment.id]}}}
        return bool(self._door.call("POST", "/flow_runs/filter", {"flow_runs": due, **of_deployment, "limit": 1}))

    def runs(
        self, deployment: Deployment, *, due_before: datetime, ended_after: datetime, states: Sequence[str] = NOT_ENDED
    ) -> list[FlowRun]:
        """Return the deployment's runs in these states, and the latest 200 that have ended since; latest start first.

        Those planned for later are left out. `states`: of those that have not ended.
        """
        due = {"expected_start_time": {"before_": due_before.isoformat()}}
        of_deployment = {"deployments": {"id": {"any_": [deployment.id]}}}
        rows = self._all({"flow_runs": {**due, "state": {"type": {"any_": list(states)}}}, **of_deployment})
        ended = {"state": {"type": {"any_": sorted(TERMINAL)}}, "end_time": {"after_": ended_after.isoformat()}}
        body = {"flow_runs": {**due, **ended}, **of_deployment, "sort": "END_TIME_DESC", "limit": MOST_ROWS}
        rows |= {row["id"]: row for row in self._door.call("POST", "/flow_runs/filter", body)}
        runs = self._door.flow_runs_from(list(rows.values()))
        return sorted(runs, key=lambda run: run.expected_start_at or run.created_at, reverse=True)

    def asked_to_cancel(self) -> list[FlowRun]:
        """Return the runs of all deployments that Signalbox has asked to stop and that have not. One call if none."""
        rows = self._all({"flow_runs": {"state": {"type": {"any_": ["CANCELLING"]}}}})
        ours = [row for row in rows.values() if (row.get("state") or {}).get("message") == ASKED_TO_CANCEL]
        return self._door.flow_runs_from(ours)

    def _all(self, body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the rows of all flow runs that fit, by id, at most 4,000. One that moves meanwhile may be missing."""
        found: dict[str, dict[str, Any]] = {}
        for page in range(MOST_PAGES):
            asked = {**body, "sort": "ID_DESC", "limit": MOST_ROWS, "offset": page * MOST_ROWS}
            rows: list[dict[str, Any]] = self._door.call("POST", "/flow_runs/filter", asked)
            found |= {row["id"]: row for row in rows}
            if len(rows) < MOST_ROWS:
                break
        return found

    def secrets_of(self, flow_run_id: str, *, are_known: bool = False) -> list[str]:
        """Return the texts that nobody is to read of what the flow run says. Raises FlowRunNotFound.

        `are_known`: only those that are known to be secret, also while nobody can say what else is.
        """
        return self._door.secrets_of(flow_run_id, are_known=are_known)

    def began_at(self, flow_run_id: str) -> datetime | None:
        """Return when the run's newest attempt began, None where Prefect does not tell. Raises FlowRunNotFound."""
        run = self._door.flow_run(flow_run_id)
        if run.state_type == "RUNNING":
            return run.state_at
        return run.started_at if run.run_count <= 1 else None  # of the first attempt

    def artifacts(self, flow_run_id: str, *, limit: int = MOST_ROWS, cursor: str = "") -> ArtifactPage:
        """Return what the flow run left, newest first; on each page, of a key that was written again the newest.

        What Prefect keeps as a result is left out, as on its own pages: it is a place on the worker's disk.
        Raises FlowRunNotFound.
        """
        secrets, limit, offset = self._door.secrets_of(flow_run_id), min(limit, MOST_ROWS), offset_of(cursor)
        wanted = {"flow_run_id": {"any_": [uuid_of(flow_run_id)]}, "type": {"not_any_": ["result"]}}
        body = {"artifacts": wanted, "limit": limit, "offset": offset, "sort": "ID_DESC"}  # ids go by time, none twice
        rows = self._door.call("POST", "/artifacts/filter", body)
        found = [
            Artifact(
                id=row["id"],
                key=masking.without(row.get("key") or "", secrets),
                kind=row.get("type") or "unknown",
                description=masking.without(row.get("description") or "", secrets),
                data=masking.data_without(row.get("data"), secrets),
                task_run_id=row.get("task_run_id") or "",
                at=instant_of(row["updated"] or row["created"]),
            )
            for row in rows
        ]
        newest: dict[str, Artifact] = {}
        for one in sorted(found, key=lambda one: one.at, reverse=True):
            newest.setdefault(one.key or one.id, one)
        return ArtifactPage(list(newest.values()), next_after(offset, limit, len(rows)))

    def task_runs(
        self, flow_run_id: str, *, states: Sequence[str] = (), limit: int = MOST_ROWS, cursor: str = ""
    ) -> TaskRunPage:
        """Return the flow run's tasks in the order they were to begin; `states`: of STATE_TYPES.

        Raises FlowRunNotFound.
        """
        secrets, limit, offset = self._door.secrets_of(flow_run_id), min(limit, MOST_ROWS), offset_of(cursor)
        body: dict[str, Any] = {
            "flow_runs": {"id": {"any_": [uuid_of(flow_run_id)]}},
            "limit": limit,
            "offset": offset,
            "sort": "EXPECTED_START_TIME_ASC",
        }
        if states:
            body["task_runs"] = {"state": {"type": {"any_": list(states)}}}
        found = [
            TaskRun(
                id=row["id"],
                name=masking.without(row["name"], secrets),
                state_type=row.get("state_type") or "PENDING",
                state_name=row.get("state_name") or "Pending",
                state_message=masking.without((row.get("state") or {}).get("message") or "", secrets),
                run_count=row.get("run_count") or 0,
                started_at=maybe_instant(row.get("start_time")),
                ended_at=maybe_instant(row.get("end_time")),
                seconds=float(row.get("estimated_run_time") or row.get("total_run_time") or 0.0),
            )
            for row in self._door.call("POST", "/task_runs/filter", body)
        ]
        return TaskRunPage(found, next_after(offset, limit, len(found)))

    def marks(self, flow_run_ids: Sequence[str]) -> dict[str, str]:
        """Return for each flow run a text that is another one as soon as a task, an artifact or the log has moved.

        Three calls, however many runs: what is newest of all of them together. Another run's move can be taken for one.
        """
        ids = [uuid_of(one) for one in flow_run_ids]
        body: dict[str, Any] = {"limit": MOST_ROWS}
        of_runs = {"flow_run_id": {"any_": ids}}
        tasks = {**body, "flow_runs": {"id": {"any_": ids}}, "sort": "EXPECTED_START_TIME_DESC"}
        rows = [
            *self._door.call("POST", "/task_runs/filter", tasks),
            *self._door.call("POST", "/artifacts/filter", {**body, "artifacts": of_runs, "sort": "UPDATED_DESC"}),
            *self._door.call("POST", "/logs/filter", {**body, "logs": of_runs, "sort": "TIMESTAMP_DESC"}),
        ]
        found = {one: hashlib.sha256() for one in ids}
        for row in rows:
            if (mark := found.get(str(row.get("flow_run_id")))) is not None:
                told = [row.get(name) for name in ("id", "state_id", "run_count", "updated", "timestamp")]
                mark.update(json.dumps(told).encode())
        return {one: mark.hexdigest() for one, mark in found.items()}

    def ask_to_cancel(self, flow_run_id: str) -> None:
        """Ask whoever runs it to stop; a run that has not begun is cancelled at once."""
        state = {"type": "CANCELLING", "name": "Cancelling", "message": ASKED_TO_CANCEL}
        self._door.call("POST", f"/flow_runs/{uuid_of(flow_run_id)}/set_state", {"state": state})

    def release_slot(self, flow_run_id: str) -> int:
        """Give back the slots that the run still holds; return of how many states. Again does nothing more."""
        rows = self._door.call("GET", f"/flow_run_states/?flow_run_id={uuid_of(flow_run_id)}")
        details = [row.get("state_details") or {} for row in rows]
        held = {str(one[_LEASE]) for one in details if one.get(_LEASE)}
        for lease in sorted(held):
            self._door.call("POST", "/v2/concurrency_limits/decrement-with-lease", {"lease_id": uuid_of(lease)})
        return len(held)

    def infrastructure_pid(self, flow_run_id: str) -> str:
        """Return what Prefect knows of the run's process, e.g. `host:4711`; empty when it knows nothing."""
        return str(self._door.call("GET", f"/flow_runs/{uuid_of(flow_run_id)}").get("infrastructure_pid") or "")

    def work_pools(self) -> list[WorkPool]:
        """Return the work pools with who serves them. Three calls for each."""
        pools = []
        for row in self._door.call("POST", "/work_pools/filter", {"limit": 50}):
            path = f"/work_pools/{quote(row['name'], safe='')}"
            workers = [
                Worker(one["name"], one.get("status") == "ONLINE", maybe_instant(one.get("last_heartbeat_time")))
                for one in self._door.call("POST", f"{path}/workers/filter", {"limit": 50})
            ]
            queues = [
                WorkQueue(one["name"], bool(one.get("is_paused")), maybe_instant(one.get("last_polled")))
                for one in self._door.call("POST", f"{path}/queues/filter", {"limit": 50})
            ]
            status = "paused" if row.get("is_paused") else str(row.get("status") or "unknown").lower()
            pools.append(WorkPool(row["name"], row.get("type") or "", status, workers, queues))
        return pools

    def last_heartbeats(self, flow_run_id: str, *, since: datetime) -> list[datetime]:
        """Return when the run's process last said that it lives, newest first, at most three.

        `since`: when its attempt began, aware; what an earlier one said counts for nothing.
        """
        found = self.events(
            names=[HEARTBEAT],
            resource=f"prefect.flow-run.{uuid_of(flow_run_id)}",
            since=since,
            newest_first=True,
            limit=3,
        )
        return [event.at for event in found]

    def events(
        self,
        *,
        since: datetime,
        names: Sequence[str] = (),
        prefix: str = "",
        resource: str = "",
        flow_run_id: str = "",
        newest_first: bool = False,
        limit: int = EVENTS_A_PAGE,
    ) -> list[Event]:
        """Return events since a moment, one page of them. `flow_run_id`: only those that the flow run told."""
        wanted: dict[str, Any] = {
            "occurred": {"since": since.isoformat(), "until": (datetime.now(UTC) + timedelta(minutes=5)).isoformat()},
            "order": "DESC" if newest_first else "ASC",
            "event": {**({"name": list(names)} if names else {}), **({"prefix": [prefix]} if prefix else {})},
        }
        if resource:
            wanted["resource"] = {"id": [resource]}
        if flow_run_id:
            wanted["related"] = {"id": [f"prefect.flow-run.{uuid_of(flow_run_id)}"]}
        body = {"filter": wanted, "limit": min(limit, EVENTS_A_PAGE)}
        return [_event(row) for row in self._door.call("POST", "/events/filter", body)["events"]]


def _event(row: Mapping[str, Any]) -> Event:
    return Event(
        id=row["id"],
        name=row["event"],
        at=instant_of(row["occurred"]),
        resource=row["resource"].get("prefect.resource.id", ""),
        payload=row.get("payload") or {},
        related=row.get("related") or [],
    )


def _schedule(row: Mapping[str, Any]) -> PrefectSchedule:
    rule = row["schedule"]
    line = rule.get("cron") or (f"every {rule['interval']:g} s" if "interval" in rule else f"rule {rule.get('rrule')}")
    is_cron = bool(rule.get("cron")) and rule.get("day_or") is not False
    if rule.get("cron") and not is_cron:
        line += " (where day and weekday both fit)"
    slug = row.get("slug") or str(row.get("id", ""))[:8] or "main"
    entry = ScheduleEntry(slug, line, rule.get("timezone") or "UTC", bool(row.get("active", True)))
    return PrefectSchedule(str(row.get("id", "")), entry, is_cron, row.get("parameters") or {})


def table_of(data: Any) -> tuple[list[str], list[list[str]]] | None:
    """Return the columns and rows of a table artifact, at most 200 rows and 100 columns; None when it is none."""
    try:
        rows = json.loads(data) if isinstance(data, str) else data
    except (ValueError, RecursionError):
        return None
    if isinstance(rows, dict) and rows and all(isinstance(cells, list) for cells in rows.values()):
        rows = dict(islice(rows.items(), MOST_COLUMNS))
        length = min(max(len(cells) for cells in rows.values()), MOST_ROWS)
        rows = [{name: cells[at] if at < len(cells) else None for name, cells in rows.items()} for at in range(length)]
    if not isinstance(rows, list):
        return None
    rows = rows[:MOST_ROWS]
    if all(isinstance(row, dict) for row in rows):
        columns = list(dict.fromkeys(str(name) for row in rows for name in islice(row, MOST_COLUMNS)))[:MOST_COLUMNS]
        return columns, [[_cell(row.get(name)) for name in columns] for row in rows]
    if all(isinstance(row, list) for row in rows):
        width = min(max((len(row) for row in rows), default=0), MOST_COLUMNS)
        return [str(at + 1) for at in range(width)], [[_cell(cell) for cell in row[:width]] for row in rows]
    return None


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def deployments() -> PrefectDeployments:
    """Return this process's door to other people's deployments. Raises PrefectAway while no address is known."""
    door = gateway()
    if not isinstance(door, HttpPrefectGateway):
        raise TypeError("only the real Prefect has deployments of other people")
    return PrefectDeployments(door)
