"""What people should know of the whole installation, on every page and in the health report, until it is over."""

from __future__ import annotations

from typing import Any

from console.live import announce
from orchestration.models import Finding

TEMPORAL_REPLACED = "temporal-replaced"
DATABASE_OLDER = "database-older"


def say(key: str, sentence: str, **body: Any) -> None:
    """Say it from now on; the same again keeps its time. `body`: what goes with it, JSON."""
    found, is_new = Finding.objects.get_or_create(key=key, defaults={"sentence": sentence, "body": body})
    if not is_new and found.sentence == sentence:
        return
    Finding.objects.filter(pk=key).update(sentence=sentence, body=body)
    announce("health")


def over(key: str) -> None:
    """Say it no longer."""
    if Finding.objects.filter(pk=key).delete()[0]:
        announce("health")


def told() -> list[dict[str, Any]]:
    """Return what is to be said, oldest first: [{"sentence", "since"}]. Asked by name from `console.health`."""
    return [
        {"sentence": found.sentence, "since": found.since.isoformat()} for found in Finding.objects.order_by("since")
    ]
