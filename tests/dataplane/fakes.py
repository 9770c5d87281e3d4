"""A Prefect in memory, as far as Signalbox asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from dataplane import api, health, views
from dataplane.catalogue import HANDBOOK
from dataplane.deployments import ArtifactPage, TaskRunPage
from dataplane.errors import DeploymentNotFound, FlowRunNotFound, PrefectAway
from dataplane.prefect_gateway import FlowRun, FlowRunPage, LogLine, LogPage, offset_of


def stand_in(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    """Let a new fake stand in for Prefect in the views and the API, and return it."""
    fake = FakePrefect()
    fake.add_deployment(HANDBOOK.flow, HANDBOOK.deployment)

    def prefect_health() -> dict[str, Any]:
        return {"ok": not fake.is_away, "detail": "fake", "address": None, "last_seen_at": None}

    for module in (api, views):
        monkeypatch.setattr(module, "gateway", lambda: fake)
    monkeypatch.setattr(health, "prefect", prefect_health)
    return fake


class FakePrefect:
    """Keeps flow runs and what was asked; `is_away` makes every call fail as an absent server does."""

    def __init__(self) -> None:
        self.is_away = False
        self.deployments: dict[tuple[str, str], dict[str, Any]] = {}  # with the schema of their parameters
        self.runs: dict[str, FlowRun] = {}
        self.polled_at: datetime | None = None
        self.lines: dict[str, list[LogLine]] = {}
        self.calls: list[str] = []

    def add_deployment(self, flow: str, deployment: str, schema: dict[str, Any] | None = None) -> None:
        self.deployments[flow, deployment] = schema or {}

    def move(self, flow_run_id: str, state_type: str, *, name: str = "", ago: timedelta = timedelta()) -> None:
        """Let a flow run come to a state, some time ago."""
        now = datetime.now(UTC) - ago
        self.runs[flow_run_id] = replace(
            self.runs[flow_run_id],
            state_type=state_type,
            state_name=name or state_type.capitalize(),
            state_at=now,
        )

    def health(self) -> None:
        self._called("health")

    def last_polled(self, flow: str, deployment: str) -> datetime | None:
        self._called("last_polled")
        if (flow, deployment) not in self.deployments:
            raise DeploymentNotFound(f"{flow}/{deployment}")
        return self.polled_at

    def create_flow_run(
        self, *, flow: str, deployment: str, parameters: Mapping[str, Any], idempotency_key: str, name: str
    ) -> FlowRun:
        self._called("create_flow_run")
        if (flow, deployment) not in self.deployments:
            raise DeploymentNotFound(f"{flow}/{deployment}")
        for run in self.runs.values():
            if (run.flow, run.idempotency_key) == (flow, idempotency_key):
                return run
        now = datetime.now(UTC)
        made = FlowRun(
            id=str(uuid4()),
            name=name,
            flow=flow,
            deployment=deployment,
            state_type="SCHEDULED",
            state_name="Scheduled",
            state_message="",
            state_at=now,
            created_at=now,
            parameters=dict(parameters),
            parameters_schema=self.deployments[flow, deployment],
            idempotency_key=idempotency_key,
            expected_start_at=now,
        )
        self.runs[made.id] = made
        return made

    def flow_run(self, flow_run_id: str) -> FlowRun:
        self._called("flow_run")
        return self._run(flow_run_id)

    def flow_runs(
        self,
        *,
        states: Sequence[str] = (),
        flow: str = "",
        limit: int = 50,
        cursor: str = "",
        due_before: datetime | None = None,
    ) -> FlowRunPage:
        self._called("flow_runs")
        found = [
            run
            for run in self.runs.values()
            if (not states or run.state_type in states)
            and (not flow or run.flow == flow)
            and (due_before is None or (run.expected_start_at and run.expected_start_at <= due_before))
        ]
        found.sort(key=lambda run: run.expected_start_at or run.created_at, reverse=True)
        start = offset_of(cursor)
        page = found[start : start + limit]
        return FlowRunPage(page, str(start + limit) if len(page) == limit else None)

    def next_flow_run(self, after: datetime) -> FlowRun | None:
        self._called("next_flow_run")
        waiting = [(run.expected_start_at, run) for run in self.runs.values() if run.state_type == "SCHEDULED"]
        due = [(at, run) for at, run in waiting if at is not None and at >= after]
        return min(due, key=lambda one: one[0])[1] if due else None

    def logs(self, flow_run_id: str, *, limit: int = 200, cursor: str = "", search: str = "") -> LogPage:
        self._called("logs")
        lines = [line for line in self.lines.get(self._run(flow_run_id).id, []) if search in line.message]
        start = offset_of(cursor)
        page = lines[start : start + limit]
        return LogPage(page, str(start + limit) if len(page) == limit else None)

    def crash(self, flow_run_id: str, message: str) -> None:
        self._called("crash")
        self._set(flow_run_id, "CRASHED", "Crashed", message)

    def run_again(self, flow_run_id: str, message: str, *, after: timedelta) -> None:
        self._called("run_again")
        self._set(flow_run_id, "SCHEDULED", "AwaitingRetry", message)
        self.runs[flow_run_id] = replace(
            self.runs[flow_run_id], expected_start_at=datetime.now(UTC) + max(after, timedelta(seconds=5))
        )

    def cancel(self, flow_run_id: str, message: str) -> None:
        self._called("cancel")
        self._set(flow_run_id, "CANCELLED", "Cancelled", message)

    def _set(self, flow_run_id: str, state_type: str, name: str, message: str) -> None:
        run = self._run(flow_run_id)
        self.runs[run.id] = replace(
            run, state_type=state_type, state_name=name, state_message=message, state_at=datetime.now(UTC)
        )

    def _run(self, flow_run_id: str) -> FlowRun:
        try:
            return self.runs[str(UUID(flow_run_id))]
        except (KeyError, ValueError) as exc:
            raise FlowRunNotFound(flow_run_id) from exc

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.is_away:
            raise PrefectAway("Prefect does not answer.")


class NoDeployments:
    """A Prefect with no run of anybody's."""

    def work_pools(self) -> list[Any]:
        return []

    def artifacts(self, flow_run_id: str, **_asked: Any) -> ArtifactPage:
        raise FlowRunNotFound(flow_run_id)

    def task_runs(self, flow_run_id: str, **_asked: Any) -> TaskRunPage:
        raise FlowRunNotFound(flow_run_id)
