"""DBOS: a workflow in `DBOS.recv_async`, answered by `DBOSClient.send` from another process, as a web process would.

Workflow and step are in `programs/dbos_worker.py`, the other process in `programs/dbos_door.py`: the product cannot
import DBOS, so it asks that process, which looks at the clock immediately before it calls `send`.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx

from bench.peers.installing import DBOS, WITH_DBOS
from bench.peers.peer import Peer, plain_environment, says_yes
from stack.ports import LOOPBACK, free_port

_PROGRAMS = Path(__file__).parent / "programs"


class DbosPeer(Peer):
    name = "dbos"
    title = "DBOS"
    version = DBOS

    def install(self) -> None:
        self._python = self.installer.python(self.name, WITH_DBOS) / "bin" / "python"

    def start(self) -> None:
        server = self.start_postgres()
        port = free_port()
        settings = plain_environment(DBOS_DATABASE=server.url(self.name), DOOR_PORT=str(port))
        marker = self.home / "worker-is-ready"
        worker = {**settings, "READY_FILE": str(marker)}
        self.start_program("dbos-worker", [self._python, _PROGRAMS / "dbos_worker.py"], worker, marker.exists)
        address = f"http://{LOOPBACK}:{port}"
        self.start_program(
            "dbos-door", [self._python, _PROGRAMS / "dbos_door.py"], settings, lambda: says_yes(f"{address}/ready")
        )
        self._door = httpx.AsyncClient(base_url=address, timeout=120)

    async def waiting(self) -> str:
        workflow_id = uuid.uuid4().hex
        (await self._door.post(f"/wait/{workflow_id}")).raise_for_status()
        return workflow_id

    async def answered(self, waiting: str) -> int:
        answer = (await self._door.post(f"/answer/{waiting}")).raise_for_status().json()
        return int(answer["next_step_ns"] - answer["began_ns"])
