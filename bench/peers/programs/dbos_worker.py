"""Runs in DBOS's own environment: the workflow that waits for an answer, and its next step."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from dbos import DBOS

DBOS(config={"name": "waits", "system_database_url": os.environ["DBOS_DATABASE"], "run_admin_server": False})


@DBOS.step()
async def propose() -> str:
    return "x" * 20_000


@DBOS.step()
async def next_step() -> int:
    return time.monotonic_ns()


@DBOS.workflow(name="wait")
async def wait() -> int:
    await propose()
    await DBOS.recv_async("answer", timeout_seconds=3600)
    return await next_step()


DBOS.launch()
DBOS.register_queue("waits")
Path(os.environ["READY_FILE"]).touch()
threading.Event().wait()
