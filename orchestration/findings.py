"""What people should know of the whole installation, on every page and in the health report, until it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Q

from console import ports
from console.clock import DatabaseNow
from console.live.announce import announce
from orchestration.models import Finding

TEMPORAL_REPLACED = "temporal-replaced"
DATABASE_OLDER = "database-older"
OLDER_IS_SAID_FOR = timedelta(days=7)


def say(key: str, sentence: str, **body: Any) -> None:
    """Say it from now on; the same again keeps its time. `body`: what goes with it, JSON."""
    found, is_new = Finding.objects.get_or_create(key=key, defaults={"sentence": sentence, "body": body})
    if not is_new and found.sentence == sentence:
        return
    Finding.objects.filter(pk=key).update(sentence=sentence, body=body, since=DatabaseNow())
    announce("health")


def over(key: str) -> None:
    """Say it no longer."""
    if Finding.objects.filter(pk=key).delete()[0]:
        announce("health")


def told() -> list[ports.ShownFinding]:
    """Return what is to be said, oldest first.

    An older database is said for a week: it never becomes whole again.
    """
    past = Q(key=DATABASE_OLDER, since__lte=DatabaseNow() - OLDER_IS_SAID_FOR)
    rows = Finding.objects.exclude(past).order_by("since")
    return [{"sentence": found.sentence, "since": found.since.isoformat()} for found in rows]
