"""The process that serves `load_orders.py`: plain Prefect, and nothing of Signalbox in its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from stack.prefect import CLIENT_ENVIRONMENT

SECRET = "hunter2-the-secret-of-the-store"
REGISTRATION = """
[datasets.orders]
title = "Orders of the shop"
deployment = "load_orders/nightly"
key = "{dataset}:{window}"
window = { every = "day", zone = "Europe/Berlin", missed = "latest" }
fresh_for = "26h"
may_start = ["admin", "operator"]
asset = "postgres://store/orders"
"""


def serve(store: Path, home: Path, prefect_api_url: str) -> subprocess.Popen[bytes]:
    """Start the process, the leader of a group of its own.

    `store`: the flow's folder. `home`: where Prefect keeps what is its own.
    """
    env = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **CLIENT_ENVIRONMENT,
        "PREFECT_API_URL": prefect_api_url,
        "PREFECT_HOME": str(home / "their-prefect"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
        "FOREIGN_STORE": str(store),
    }
    with (home / "their.log").open("ab") as log:
        command = [sys.executable, str(Path(__file__).parent / "load_orders.py")]
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process, and every run that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
