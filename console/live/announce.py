"""Tell open pages that something changed.

A message names a topic, never content: `{"topic": "approval:apr_1"}`. It leaves with the transaction that
made the change (PostgreSQL sends notifications at commit), each web process hears it on one connection
(`console.live.listener`), and the browser fetches the changed fragment over HTTP, where permissions are checked.
"""

from __future__ import annotations

import json

from console import planned_once

CHANNEL = "signalbox_live"


def announce(*topics: str) -> None:
    """Announce that what the topics name has changed; sent when the current transaction commits.

    Topics: `inbox`, `approval:<id>`, `presence:<id>`, `runs`, `run:<id>`, `progress:<id>`, `batches`,
    `batch:<id>`, `data`, `flow-run:<id>`, `health`, `system`.
    """
    messages = [message(topic) for topic in topics]
    with planned_once.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, message) FROM unnest(%s::text[]) AS message", [CHANNEL, messages])


def message(topic: str) -> str:
    """Return what is sent on CHANNEL of a topic."""
    return json.dumps({"topic": topic})
