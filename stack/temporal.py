"""A Temporal server on loopback with its database in a file.

Facts this relies on:
* Production server: one YAML file, one process, four services; each wants a gRPC and a membership port.
  JSON is YAML, so the file is written as JSON and paths may hold anything.
* It creates no namespace. A new one is not known to every cache at once, so the first calls are repeated
  until they succeed.
* `history.transferProcessorMaxPollRPS` is 20 by default, which makes a task wait up to 50 ms for the next
  poll. At 2000 a signal reaches the next node in 16 ms instead of 36.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack import ports, temporal_binary
from stack.errors import PartFailed
from stack.files import write_atomically
from stack.processes import Command
from stack.services import Cancelled, Say, Service, never, silent

if TYPE_CHECKING:  # the SDK takes its time to load, and `manage.py up` has none while it starts
    from temporalio.envconfig import ClientConnectConfig

RETENTION = timedelta(days=30)
_SERVICES = ("frontend", "history", "matching", "worker")
_DATABASES: dict[temporal_binary.Kind, str] = {"server": "temporal.sqlite3", "cli": "temporal-cli.sqlite3"}


def dynamic_configuration(time_skipping: bool) -> dict[str, Any]:
    """Return the server's settings. `time_skipping` lets a drill move one workflow's clock."""
    values: dict[str, Any] = {
        "history.transferProcessorMaxPollRPS": 2000,
        "history.timerProcessorMaxPollRPS": 2000,
        "matching.numTaskqueueReadPartitions": 1,
        "matching.numTaskqueueWritePartitions": 1,
    }
    if time_skipping:
        values["frontend.WorkflowTimeSkippingEnabled"] = True
    return values


class Temporal(Service):
    """One Temporal server with its files in `<home>/temporal/`."""

    name = "temporal"
    stop_seconds = 3.0
    ready_seconds = 60.0
    adoptable = True
    synchronous = "2"  # full: a decision that was acknowledged survives a power cut

    def __init__(
        self, home: Path, port: int | None = None, *, namespace: str = "default", time_skipping: bool = False
    ) -> None:
        """`port`: a free one, remembered in `<home>/ports.json`, when not given."""
        super().__init__(home)
        self.folder = home / "temporal"
        self.namespace = namespace
        self.time_skipping = time_skipping
        self.binary: temporal_binary.Binary | None = None
        self._ports = ports.Ports(home)
        self._fixed_port = port

    @property
    def port(self) -> int:
        """The frontend's gRPC port, chosen on first use."""
        if self._fixed_port is None:
            # A server that is still running holds the remembered port, which therefore does not look free.
            kept = self._ports.remembered("temporal") if self.leftover() else None
            self._fixed_port = kept or self._ports.assign("temporal")
        return self._fixed_port

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    def place(self) -> str:
        return f"on {self.address}"

    def prepare(self, say: Say = silent, cancelled: Cancelled = never) -> None:
        """Find or get the server. May take minutes on the first start of a machine.

        Raises NoTemporalServer when none can be had, or not the kind that wrote this folder's workflows.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.binary = temporal_binary.find_or_get(say, cancelled, self._kept())

    def command(self) -> Command:
        if self.binary is None:
            raise PartFailed("temporal was started before its server was found.")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
        argv = self._server_argv() if self.binary.kind == "server" else self._cli_argv()
        return Command([str(self.binary.path), *argv], environment, self.folder)

    def is_ready(self) -> bool:
        """Return whether the namespace exists and answers calls; registers it when it is missing."""
        if not ports.accepts(self.port):
            return False
        return namespace_answers(self.address, self.namespace, register=True)

    def _database(self, kind: temporal_binary.Kind) -> Path:
        return self.folder / _DATABASES[kind]

    def _kept(self) -> tuple[temporal_binary.Kind, Path] | None:
        """Return which kind of server wrote this folder's workflows, and its file; `None` before the first start.

        Where both kinds have written one, the file that was written last has what the console knows.
        """
        found = [(kind, file) for kind in _DATABASES if (file := self._database(kind)).exists()]
        return max(found, key=lambda one: _last_written(one[1]), default=None)

    def _server_argv(self) -> list[str]:
        folder = self.folder / "config"
        write_atomically(folder / "config.yaml", json.dumps(self._configuration(), indent=1))
        values = {name: [{"value": value}] for name, value in dynamic_configuration(self.time_skipping).items()}
        write_atomically(folder / "dynamic.yaml", json.dumps(values, indent=1))
        return [
            *("--root", str(self.folder), "--config", "config", "--env", "config"),
            *("--allow-no-auth", "start"),
        ]

    def _cli_argv(self) -> list[str]:
        argv = [
            *("server", "start-dev", "--ip", ports.LOOPBACK, "--port", str(self.port), "--headless"),
            *("--db-filename", str(self._database("cli")), "--namespace", self.namespace),
            *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", f"synchronous={self.synchronous}"),
            *("--log-level", "warn"),
        ]
        for name, value in dynamic_configuration(self.time_skipping).items():
            argv += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
        return argv

    def _configuration(self) -> dict[str, Any]:
        store = {
            "sql": {
                "pluginName": "sqlite",
                "databaseName": str(self._database("server")),
                "connectAddr": "localhost",
                "connectProtocol": "tcp",
                "connectAttributes": {
                    "cache": "private",
                    "setup": "true",
                    "mode": "rwc",
                    "journal_mode": "wal",
                    "synchronous": self.synchronous,
                },
                "maxConns": 1,
                "maxIdleConns": 1,
                "maxConnLifetime": "1h",
            }
        }
        services: dict[str, Any] = {}
        for service in _SERVICES:
            grpc = self.port if service == "frontend" else self._ports.assign(f"temporal-{service}")
            services[service] = {
                "rpc": {
                    "grpcPort": grpc,
                    "membershipPort": self._ports.assign(f"temporal-{service}-membership"),
                    "bindOnLocalHost": True,
                }
            }
        return {
            "log": {"stdout": True, "level": "warn"},
            "persistence": {
                "defaultStore": "file",
                "visibilityStore": "file",
                "numHistoryShards": 1,  # fixed for the life of the file; more gain nothing on one connection
                "datastores": {"file": store},
            },
            "global": {"membership": {"maxJoinDuration": "30s", "broadcastAddress": ports.LOOPBACK}},
            "services": services,
            "clusterMetadata": {
                "enableGlobalNamespace": False,
                "failoverVersionIncrement": 10,
                "masterClusterName": "active",
                "currentClusterName": "active",
                "clusterInformation": {
                    "active": {
                        "enabled": True,
                        "initialFailoverVersion": 1,
                        "rpcName": "frontend",
                        "rpcAddress": self.address,
                    }
                },
            },
            "dcRedirectionPolicy": {"policy": "noop"},
            "archival": {"history": {"state": "disabled"}, "visibility": {"state": "disabled"}},
            "publicClient": {"hostPort": self.address},
            "dynamicConfigClient": {
                "filepath": str(self.folder / "config" / "dynamic.yaml"),
                "pollInterval": "60s",
            },
        }


def _last_written(database: Path) -> float:
    """Return when SQLite last wrote, in seconds since the epoch; what is new stands in the log beside it first."""
    log = database.with_name(f"{database.name}-wal")
    return max(file.stat().st_mtime for file in (database, log) if file.exists())


def namespace_answers(address: str, namespace: str, *, register: bool = False) -> bool:
    """Return whether the namespace there answers calls now; with `register`, create it when it is missing.

    With it also, its history is kept for 30 days at least after a workflow closed: the command line's server makes the
    namespace itself and keeps it for one. Never raises for a server that is away.
    """
    from console.temporal_connection import embedded

    return asyncio.run(answers_calls(embedded(address, namespace), register=register))


async def answers_calls(config: ClientConnectConfig, *, register: bool) -> bool:
    """Return whether the namespace answers calls to whoever connects like this; see `namespace_answers`."""
    from google.protobuf.duration_pb2 import Duration
    from temporalio.api.common.v1 import WorkflowExecution
    from temporalio.api.namespace.v1 import NamespaceConfig
    from temporalio.api.workflowservice.v1 import (
        DescribeNamespaceRequest,
        DescribeWorkflowExecutionRequest,
        RegisterNamespaceRequest,
        UpdateNamespaceRequest,
    )
    from temporalio.service import RPCError, RPCStatusCode

    from console.temporal_connection import connect

    namespace = config["namespace"]
    limit = timedelta(seconds=2)
    try:
        async with asyncio.timeout(2.5):
            client = await connect(config, namespace_may_be_missing=True)
            service = client.workflow_service
            retention = Duration(seconds=int(RETENTION.total_seconds()))
            try:
                found = await service.describe_namespace(DescribeNamespaceRequest(namespace=namespace), timeout=limit)
                if register and found.config.workflow_execution_retention_ttl.ToTimedelta() < RETENTION:
                    longer = NamespaceConfig(workflow_execution_retention_ttl=retention)
                    await service.update_namespace(
                        UpdateNamespaceRequest(namespace=namespace, config=longer), timeout=limit
                    )
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND or not register:
                    return False
                with contextlib.suppress(RPCError):  # somebody else was first
                    await service.register_namespace(
                        RegisterNamespaceRequest(namespace=namespace, workflow_execution_retention_period=retention),
                        timeout=limit,
                    )
            # The frontend answers before the history service behind it does, so ask that one something too.
            try:
                await service.describe_workflow_execution(
                    DescribeWorkflowExecutionRequest(
                        namespace=namespace, execution=WorkflowExecution(workflow_id="nobody")
                    ),
                    timeout=limit,
                )
            except RPCError as error:
                return error.status is RPCStatusCode.NOT_FOUND and "amespace" not in error.message
    except (RPCError, RuntimeError, TimeoutError):  # RuntimeError: no connection
        return False
    return True
