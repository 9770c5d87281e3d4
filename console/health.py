"""How the parts are. Postgres is asked directly, the engines through their apps, our processes by their heartbeats."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypedDict

from django.conf import settings
from django.db import Error, connection
from django.utils.module_loading import import_string

from console.app_role import loose_record
from console.clock import DatabaseNow, database_now
from console.live import announce
from console.models import PartHeartbeat

OUR_PROCESSES = ("worker", "relay", "flows")
SILENT_AFTER = timedelta(seconds=15)  # three missed heartbeats


class PartHealth(TypedDict):
    ok: bool
    detail: str
    address: str | None
    last_seen_at: str | None  # RFC 3339


def beat(part: str, detail: str = "") -> None:
    """Say that this process is alive. Called every 5 s by each of our processes."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    PartHeartbeat.objects.update_or_create(
        part=part, instance=instance, defaults={"detail": detail[:300], "last_seen_at": DatabaseNow()}
    )


def forget(part: str) -> None:
    """Take this process's heartbeat away: it stopped in good order."""
    PartHeartbeat.objects.filter(part=part, instance=f"{socket.gethostname()}:{os.getpid()}").delete()


def report() -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and `{"status", "parts"}` as `GET health` promises them."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT split_part(version(), ' ', 2)")
            version = cursor.fetchone()[0]
        parts = {"postgres": _part(True, f"PostgreSQL {version}. {loose_record()}".strip(), _postgres_address())}
        parts |= {name: _ask(path) for name, path in settings.HEALTH_CHECKS.items()}
        parts |= _processes()
    except Error:
        away = _part(False, "PostgreSQL cannot be reached", _postgres_address())
        return 503, {"status": "degraded", "parts": {"postgres": away}}
    if all(part["ok"] for part in parts.values()):
        status = "ok"
    else:
        # Degraded still takes clicks and delivers them later. Before any of our processes was here, it is starting.
        status = "degraded" if PartHeartbeat.objects.exists() else "starting"
    return 200, {"status": status, "parts": parts}


#: what the absence of a part means for people; Postgres is missing here, for without it there is no page
CONSEQUENCES = {
    "temporal": "Temporal is away: decisions are recorded and delivered when it is back.",
    "worker": "No worker is alive: runs stand still until one is back. Decisions are recorded.",
    "relay": "The relay is away: decisions are recorded and delivered when it is back.",
    "prefect": "Prefect is away or still starting: agents go on reading the current data, refreshes wait.",
    "flows": "The flow process is away or still starting: refreshes wait.",
}
_NOTICE_SECONDS = 3.0
_noticed: tuple[float, list[str]] = (float("-inf"), [])


def notices() -> list[str]:
    """Return what people should know of absent parts, a sentence each; looked up every 3 s per process at most.

    One absence that explains another hides it: without Temporal no worker gets work, without Prefect no flow runs.
    """
    global _noticed
    if time.monotonic() - _noticed[0] > _NOTICE_SECONDS:
        _, found = report()
        absent = [part for part, sentence in CONSEQUENCES.items() if not found["parts"].get(part, {"ok": True})["ok"]]
        explained = {"temporal": "worker", "prefect": "flows"}
        hidden = {explained[part] for part in absent if part in explained}
        _noticed = (time.monotonic(), [CONSEQUENCES[part] for part in absent if part not in hidden])
    return _noticed[1]


def announce_changes(before: dict[str, bool]) -> dict[str, bool]:
    """Tell open pages when a part has come or gone since `before`; return how the parts are now."""
    _, found = report()
    now = {part: health["ok"] for part, health in found["parts"].items()}
    if now != before:
        announce("health")
    return now


def _ask(path: str) -> PartHealth:
    check: Callable[[], PartHealth] = import_string(path)
    return check()


def _processes() -> dict[str, PartHealth]:
    """Read the newest heartbeat of each of our processes, in one query."""
    now = database_now()
    beats = PartHeartbeat.objects.filter(part__in=OUR_PROCESSES, last_seen_at__gt=now - timedelta(days=1))
    found: dict[str, PartHealth] = {}
    for part in OUR_PROCESSES:
        rows = sorted((row for row in beats if row.part == part), key=lambda row: row.last_seen_at, reverse=True)
        alive = [row for row in rows if now - row.last_seen_at < SILENT_AFTER]
        if alive:
            count = f"{len(alive)} processes. " if len(alive) > 1 else ""
            found[part] = _part(True, count + (alive[0].detail or "alive"), alive[0].instance, alive[0].last_seen_at)
        elif rows:
            found[part] = _part(False, "silent", rows[0].instance, rows[0].last_seen_at)
        else:
            found[part] = _part(False, "not seen yet")
    return found


def _part(ok: bool, detail: str, address: str | None = None, last_seen_at: Any = None) -> PartHealth:
    moment = last_seen_at.isoformat() if last_seen_at else None
    return {"ok": ok, "detail": detail, "address": address, "last_seen_at": moment}


def _postgres_address() -> str:
    return f"{settings.DATABASES['default']['HOST']}:{settings.DATABASES['default']['PORT']}"
