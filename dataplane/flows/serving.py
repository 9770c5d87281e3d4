"""The process that runs flows: `python -m dataplane.flows.serving`, a child of `manage.py serve_flows`.

It registers the deployments with the schedules of their rows, again when a row changes, and starts one process per flow
run. It ends with its parent: when the parent's end of the pipe on standard input closes, also by SIGKILL, the whole
process group goes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

import httpx
import psycopg
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import DeploymentApplyError
from prefect.exceptions import PrefectException
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from console.environment import environment
from console.prefect_access import authorization, locked_out, prefect_token
from dataplane.catalogue import CATALOGUE, DatasetEntry
from dataplane.flows.build_customer_features import build_customer_features
from dataplane.flows.outlooks import Outlooks
from dataplane.flows.rebuild_index import rebuild_index
from dataplane.flows.refresh_handbook import refresh_handbook
from dataplane.flows.regenerate_eval_set import regenerate_eval_set
from dataplane.flows.train_retrieval_adapter import train_retrieval_adapter
from dataplane.flows.train_verdict_model import train_verdict_model
from dataplane.plain_sql import connect
from dataplane.schedules import ScheduleEntry, seeded

LOOK_SECONDS = 5.0  # between two looks at the schedules
logger = logging.getLogger(__name__)

#: every flow that makes a dataset, by its name; a new one has its line here
FLOWS: dict[str, Flow[Any, Any]] = {
    made.name: made
    for made in (
        refresh_handbook,
        rebuild_index,
        build_customer_features,
        regenerate_eval_set,
        train_verdict_model,
        train_retrieval_adapter,
    )
}


async def serve() -> None:
    """Register every dataset's deployment, then run what Prefect says is due, until told to stop."""
    # Schedules stay on while nobody serves: what came due then is late, and runs when somebody is back.
    runner = Runner(name="signalbox", pause_on_shutdown=False, limit=4)
    await until_prefect_answers()
    registered = ServedDeployments(runner)
    await registered.look_until_all_are_served()
    beside = [asyncio.create_task(registered.follow()), asyncio.create_task(tell_outlooks(Outlooks()))]
    await runner.start()
    for one in beside:
        one.cancel()


class ServedDeployments:
    """What Prefect was told of our deployments, and what has to be said when a schedule's row is changed."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._served: dict[str, list[ScheduleEntry]] = {}

    async def look_until_all_are_served(self) -> None:
        """Look every LOOK_SECONDS until Prefect knows every deployment; waits out an absent database or Prefect."""
        while True:
            if await self.look():
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def follow(self) -> None:
        """Look again and again: flows run on, whatever is wrong with a schedule."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                logger.exception("The schedules could not be looked at")

    async def look(self) -> bool:
        """Register every dataset whose schedules are not yet served as they stand in their rows.

        Return whether all are; they are not while the database or Prefect is away.
        """
        try:
            for name, schedules in (await asyncio.to_thread(read_schedules)).items():
                if self._served.get(name) != schedules:
                    await _register(self._runner, CATALOGUE[name], schedules)
                    self._served[name] = schedules
        except (psycopg.Error, httpx.HTTPError, DeploymentApplyError, PrefectException) as exc:
            logger.warning("The schedules are looked at again in %s s: %s", LOOK_SECONDS, exc)
            return False
        return True


async def tell_outlooks(outlooks: Outlooks) -> None:
    """Write again and again what the verdict model expects of open requests: flows run on, whatever is wrong here."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await asyncio.to_thread(outlooks.look)
        except psycopg.Error as exc:
            logger.info("Open requests are looked at again in %s s: %s", LOOK_SECONDS, exc)
        except Exception:
            logger.exception("Open requests could not be looked at")


def read_schedules() -> dict[str, list[ScheduleEntry]]:
    """Return every dataset's schedules from their rows, which are written first where there are none yet."""
    with connect() as connection:
        return {name: seeded(connection, entry) for name, entry in CATALOGUE.items()}


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
                    logger.warning("Flows wait for Prefect. %s", words)
                said = words
            except httpx.HTTPError:
                pass  # not yet there
            await asyncio.sleep(0.3)


async def _register(runner: Runner, entry: DatasetEntry, schedules: Sequence[ScheduleEntry]) -> None:
    """Tell Prefect of the deployment and exactly these schedules. One that Prefect cannot follow is left out."""
    crons = [cron for one in schedules if (cron := _cron(entry, one))]
    deployment = await FLOWS[entry.flow].ato_deployment(
        name=entry.deployment,
        schedules=crons,
        description=f"Makes the dataset {entry.name}.",
        tags=["signalbox", f"dataset:{entry.name}"],
        enforce_parameter_schema=True,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment_id = await runner.aadd_deployment(deployment)
    if not crons:  # an empty list is not sent, so the schedules of before would stay
        async with get_client() as client:
            for one in await client.read_deployment_schedules(deployment_id):
                if one.active:  # not deleted: with one of them Prefect deletes every run that is late, too
                    await client.update_deployment_schedule(deployment_id, one.id, active=False)


def _cron(entry: DatasetEntry, schedule: ScheduleEntry) -> DeploymentScheduleCreate | None:
    """Return the schedule as Prefect takes it: without a slug, for those with slugs are only added to."""
    try:
        return DeploymentScheduleCreate(
            schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone),
            active=schedule.is_active,
        )
    except ValueError as exc:
        logger.warning("the schedule %s of %s is not served: %s", schedule.slug, entry.name, exc)
        return None


def end_with_parent() -> None:
    """Wait until the parent is gone, then end this process and the flow runs that it started."""
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True, name="end-with-parent").start()
    asyncio.run(serve())
