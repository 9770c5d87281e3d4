"""What every run needs: a worker, a relay, Temporal. Our own heartbeats are asked, for Temporal's pollers linger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Max

from console import health
from console.clock import DatabaseNow, database_now
from console.models import PartHeartbeat
from orchestration.models import Lookout

RESTARTS_WITHIN: Final = timedelta(minutes=3)  # whatever is away for less comes back by itself


@dataclass(frozen=True)
class Parts:
    """How the parts are. A part that is well has no `since`."""

    worker_since: datetime | None = None  # no worker has been able to work since
    worker_words: str = ""  # what one says that is alive and cannot work
    relay_since: datetime | None = None
    temporal_since: datetime | None = None
    temporal_words: str = ""


def parts_now() -> Parts:
    """Return how the parts are. Three queries."""
    now = database_now()
    seen = dict(PartHeartbeat.objects.values_list("part").annotate(Max("last_seen_at")))
    alive = PartHeartbeat.objects.filter(last_seen_at__gt=now - health.SILENT_AFTER)
    rows = list(alive.order_by("-ok", "-last_seen_at").values_list("part", "ok", "detail"))
    lookout = Lookout.objects.filter(pk=1).first() or Lookout()
    workers = [(ok, words) for part, ok, words in rows if part == "worker"]
    worker_since, worker_words = None, ""
    if not any(ok for ok, _ in workers):
        worker_since = lookout.no_worker_since or seen.get("worker") or now
        worker_words = workers[0][1] if workers else ""
    relay_since = None if any(part == "relay" for part, _, _ in rows) else seen.get("relay") or now
    temporal_since = lookout.temporal_away_since if relay_since is None else None
    return Parts(worker_since, worker_words, relay_since, temporal_since, lookout.temporal_fault)


def note_parts(temporal_fault: str | None, *, is_known: bool = True) -> None:
    """Keep since when no worker can work, and since when Temporal does not answer a relay (`None`: it does).

    Where it is not known, what is kept of Temporal stays.
    """
    since = DatabaseNow()
    lookout, _ = Lookout.objects.get_or_create(pk=1)
    able = PartHeartbeat.objects.filter(part="worker", ok=True, last_seen_at__gt=database_now() - health.SILENT_AFTER)
    is_able = able.exists()
    if is_able != (lookout.no_worker_since is None):
        last = PartHeartbeat.objects.filter(part="worker", ok=True).aggregate(last=Max("last_seen_at"))["last"]
        Lookout.objects.filter(pk=1).update(no_worker_since=None if is_able else last or since)
    if is_known and (temporal_fault is None) != (lookout.temporal_away_since is None):
        away = {"temporal_away_since": since, "temporal_fault": (temporal_fault or "")[:300]}
        back = {"temporal_away_since": None, "temporal_fault": ""}
        Lookout.objects.filter(pk=1).update(**(back if temporal_fault is None else away))
