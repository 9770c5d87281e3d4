"""Airflow: an `ApprovalOperator`, answered by a PATCH of its details in the public API; the task after it is the step.

The work is `programs/airflow_dag.py`. Its next task returns the moment at which it ran, which is read from the API too.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
import uuid
from pathlib import Path

import httpx

from bench.peers.installing import AIRFLOW, WITH_AIRFLOW, PeerFailed, run_to_its_end
from bench.peers.peer import START_SECONDS, Peer, plain_environment, says_yes
from stack.ports import LOOPBACK, free_port
from stack.processes import Command

_DAG = Path(__file__).parent / "programs" / "airflow_dag.py"
_RUNS = "/api/v2/dags/wait/dagRuns"


class AirflowPeer(Peer):
    name = "airflow"
    title = "Airflow"
    version = AIRFLOW

    def install(self) -> None:
        self._programs = self.installer.python(self.name, WITH_AIRFLOW) / "bin"

    def start(self) -> None:
        folder = self.home / "airflow"
        (folder / "dags").mkdir(parents=True)
        shutil.copy(_DAG, folder / "dags" / "wait.py")
        server = self.start_postgres()
        port = free_port()
        address = f"http://{LOOPBACK}:{port}"
        settings = plain_environment(
            self._programs,
            AIRFLOW_HOME=str(folder),
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=server.url(self.name).replace("postgresql:", "postgresql+psycopg2:"),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION="False",
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
            AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"{address}/execution/",
            AIRFLOW__API__HOST=LOOPBACK,
            AIRFLOW__API__PORT=str(port),
            AIRFLOW__API__BASE_URL=address,
            AIRFLOW__API__SECRET_KEY=uuid.uuid4().hex,
            AIRFLOW__API_AUTH__JWT_SECRET=uuid.uuid4().hex * 2,
            AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(free_port()),
            AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT=str(free_port()),
        )
        airflow = self._programs / "airflow"
        migrate = Command([str(airflow), "db", "migrate"], settings, self.home)
        run_to_its_end(self.home, "airflow-migrate", migrate, START_SECONDS)
        ready = f"{address}/api/v2/monitor/health"
        self.start_program("airflow-api-server", [airflow, "api-server"], settings, lambda: says_yes(ready))
        for part in ("scheduler", "dag-processor", "triggerer"):
            self.start_program(f"airflow-{part}", [airflow, part], settings)
        token = httpx.get(f"{address}/auth/token", timeout=60).raise_for_status().json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(base_url=address, headers=headers, timeout=60)

    async def waiting(self) -> str:
        while (await self._client.get("/api/v2/dags/wait")).status_code == httpx.codes.NOT_FOUND:  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # its processor has not read the file yet
        run_id = uuid.uuid4().hex
        begun = await self._client.post(_RUNS, json={"dag_run_id": run_id, "logical_date": None})
        begun.raise_for_status()
        while await self._state(f"{run_id}/taskInstances/ask") != "awaiting_input":  # noqa: ASYNC110  it is asked
            await asyncio.sleep(0.3)
        # Airflow 3.3.2 fails a task that is answered before its scheduler has noticed the end of the process that
        # asked: it takes that for the end of the task, which the answer has queued again by then.
        noticed = re.compile(rf"Received executor event .* task_id='ask', run_id='{run_id}'")
        while not noticed.search(self._scheduler_log().read_text(errors="replace")):  # noqa: ASYNC110
            await asyncio.sleep(0.3)
        return run_id

    async def answered(self, waiting: str) -> int:
        began = time.monotonic_ns()
        answer = await self._client.patch(
            f"{_RUNS}/{waiting}/taskInstances/ask/-1/hitlDetails",
            json={"chosen_options": ["Approve"], "params_input": {}},
        )
        answer.raise_for_status()
        while (state := await self._state(waiting)) != "success":
            if state == "failed":
                raise PeerFailed(f"the run failed after its answer: {await self._why(waiting)}")
            await asyncio.sleep(0.5)  # seldom: asking takes time from what is measured
        told = await self._client.get(f"{_RUNS}/{waiting}/taskInstances/next_step/xcomEntries/return_value")
        return int(told.raise_for_status().json()["value"]) - began

    async def _why(self, run_id: str) -> str:
        """Return which task failed, and the last that the scheduler said of a failure."""
        tasks = (await self._client.get(f"{_RUNS}/{run_id}/taskInstances")).raise_for_status().json()
        states = ", ".join(f"{one['task_id']} {one['state']}" for one in tasks["task_instances"])
        errors = re.findall(
            r"\[error +\] (.*?)(?: +\[airflow|$)", self._scheduler_log().read_text(errors="replace"), re.M
        )
        return f"{states}; {errors[-1] if errors else 'the scheduler names no error'}"

    def _scheduler_log(self) -> Path:
        return self.home / "logs" / "airflow-scheduler.log"

    async def _state(self, of: str) -> str:
        return str((await self._client.get(f"{_RUNS}/{of}")).raise_for_status().json()["state"])
