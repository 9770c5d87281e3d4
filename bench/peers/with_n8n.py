"""n8n: a workflow in a Wait node, answered at the address that the node made (`$execution.resumeUrl`).

The workflow is `programs/n8n_workflow.json`. The node after the wait writes `Date.now()`, whose grain is a millisecond,
so the answer's begin is taken from the same wall clock.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg

from bench.peers.installing import N8N, NODE, run_to_its_end
from bench.peers.peer import START_SECONDS, Peer, plain_environment, says_yes
from stack.ports import LOOPBACK, free_port
from stack.postgres import ROLE
from stack.processes import Command

_WORKFLOW = Path(__file__).parent / "programs" / "n8n_workflow.json"


class N8nPeer(Peer):
    name = "n8n"
    title = "n8n"
    version = N8N

    def install(self) -> None:
        self._node = self.installer.npm("node", f"node@{NODE}") / "node_modules" / ".bin"
        path = plain_environment(self._node)["PATH"]
        # Without install scripts: they fetch drivers from elsewhere, for SQLite and Kafka, and PostgreSQL needs none.
        place = self.installer.npm(self.name, f"n8n@{N8N}", "--ignore-scripts", path=path)
        self._n8n = place / "node_modules" / ".bin" / "n8n"

    def start(self) -> None:
        server = self.start_postgres()
        self._database_url = server.url(self.name)
        port, broker = free_port(), free_port()
        address = f"http://{LOOPBACK}:{port}"
        settings = plain_environment(
            self._node,
            N8N_USER_FOLDER=str(self.home),
            DB_TYPE="postgresdb",
            DB_POSTGRESDB_HOST=LOOPBACK,
            DB_POSTGRESDB_PORT=str(server.port),
            DB_POSTGRESDB_DATABASE=self.name,
            DB_POSTGRESDB_USER=ROLE,
            DB_POSTGRESDB_PASSWORD=server.password,
            N8N_LISTEN_ADDRESS=LOOPBACK,
            N8N_HOST=LOOPBACK,
            N8N_PORT=str(port),
            N8N_RUNNERS_BROKER_PORT=str(broker),
            # nothing is told to its makers
            N8N_DIAGNOSTICS_ENABLED="false",
            N8N_VERSION_NOTIFICATIONS_ENABLED="false",
            N8N_TEMPLATES_ENABLED="false",
        )
        workflow_id = json.loads(_WORKFLOW.read_text())[0]["id"]
        for verb in (["import:workflow", f"--input={_WORKFLOW}"], ["publish:workflow", f"--id={workflow_id}"]):
            command = Command([str(self._n8n), *verb], settings, self.home)
            run_to_its_end(self.home, f"n8n-{verb[0].partition(':')[0]}", command, START_SECONDS)
        ready = f"{address}/healthz/readiness"
        self.start_program("n8n-server", [self._n8n, "start"], settings, lambda: says_yes(ready))
        self._client = httpx.AsyncClient(base_url=address, timeout=60)

    async def waiting(self) -> str:
        begun = await self._client.post("/webhook/wait", json={"number": 1})
        while begun.status_code == httpx.codes.NOT_FOUND:  # its webhooks are there a moment after it is ready
            await asyncio.sleep(0.5)
            begun = await self._client.post("/webhook/wait", json={"number": 1})
        resume = str(begun.raise_for_status().json()["resume"])
        execution = urlsplit(resume).path.rsplit("/", 1)[-1]
        async with await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as connection:
            while True:
                asked = await connection.execute("SELECT status FROM execution_entity WHERE id = %s", [execution])
                if await asked.fetchone() == ("waiting",):
                    return resume
                await asyncio.sleep(0.05)

    async def answered(self, waiting: str) -> int:
        began = time.time_ns()
        answer = await self._client.post(waiting, json={"verdict": "approve"})
        return int(answer.raise_for_status().json()["next_step_ms"]) * 1_000_000 - began
