"""Runs in DBOS's own environment, beside the worker: begins workflows and answers them with `DBOSClient`."""

from __future__ import annotations

import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from dbos import DBOSClient

CLIENT = DBOSClient(system_database_url=os.environ["DBOS_DATABASE"])


def wait(workflow_id: str) -> dict[str, Any]:
    """Begin a workflow; return once it has done all that is before its wait."""
    CLIENT.enqueue({"workflow_name": "wait", "queue_name": "waits", "workflow_id": workflow_id})
    while not CLIENT.list_workflow_steps(workflow_id):
        time.sleep(0.05)
    return {}


def answer(workflow_id: str) -> dict[str, Any]:
    """Answer it; return when that began, and when the next step ran."""
    began = time.monotonic_ns()
    CLIENT.send(workflow_id, {"verdict": "approve"}, "answer")
    return {"began_ns": began, "next_step_ns": CLIENT.retrieve_workflow(workflow_id).get_result()}


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._say({})

    def do_POST(self) -> None:
        verb, workflow_id = self.path.strip("/").split("/")
        self._say({"wait": wait, "answer": answer}[verb](workflow_id))

    def _say(self, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing for a request."""


HTTPServer(("127.0.0.1", int(os.environ["DOOR_PORT"])), Door).serve_forever()
