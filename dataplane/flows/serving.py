"""The process that runs flows: `python -m dataplane.flows.serving`, a child of `manage.py serve_flows`.

It registers the deployments with their schedules and starts one process per flow run. It ends with its
parent: when the parent's end of the pipe on standard input closes, also by SIGKILL, the whole process group
goes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import Any

import httpx
from prefect import Flow
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType

from console.environment import environment
from console.prefect_access import authorization, locked_out, prefect_token
from dataplane.catalogue import CATALOGUE, DatasetEntry
from dataplane.flows.refresh_handbook import refresh_handbook

#: every flow that makes a dataset, by its name; a new one has its line here
FLOWS: dict[str, Flow[Any, Any]] = {made.name: made for made in (refresh_handbook,)}


async def serve() -> None:
    """Register every dataset's deployment, then run what Prefect says is due, until told to stop."""
    # Schedules stay on while nobody serves: what came due then is late, and runs when somebody is back.
    runner = Runner(name="signalbox", pause_on_shutdown=False, limit=4)
    await until_prefect_answers()
    for entry in CATALOGUE.values():
        await _register(runner, entry)
    await runner.start()


async def until_prefect_answers() -> None:
    """Wait for the server, which may take 20 s to start, and until it lets us in; say once why it does not."""
    credentials, said = authorization(*prefect_token()), ""
    question = f"{environment().prefect_api_url}/flows/count"  # its health is told to anybody
    async with httpx.AsyncClient(timeout=2, headers=credentials) as client:
        while True:
            try:
                answer = await client.post(question, json={})
                if answer.is_success:
                    return
                words = locked_out(answer.status_code, bool(credentials))
                if words and words != said:
                    logging.getLogger(__name__).warning("Flows wait for Prefect. %s", words)
                said = words
            except httpx.HTTPError:
                pass  # not yet there
            await asyncio.sleep(0.3)


async def _register(runner: Runner, entry: DatasetEntry) -> None:
    deployment = await FLOWS[entry.flow].ato_deployment(
        name=entry.deployment,
        schedule=Cron(entry.cron, timezone="UTC"),
        description=f"Makes the dataset {entry.name}.",
        tags=["signalbox", f"dataset:{entry.name}"],
        enforce_parameter_schema=True,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    await runner.aadd_deployment(deployment)


def end_with_parent() -> None:
    """Wait until the parent is gone, then end this process and the flow runs that it started."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True, name="end-with-parent").start()
    asyncio.run(serve())
