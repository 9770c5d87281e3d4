"""How much one account may have under way, counted in the transaction that adds one more.

A lock of the account, held until that transaction ends, lets two callers at once never both be the last one. What is
counted must have a partial index by account, so that a count costs the same however long the table is.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet

from console.environment import environment
from console.locks import AdvisoryLock
from console.refusals import Refused

WAIT_SECONDS = 30  # before asking again is worth it


class TooManyInFlight(Refused):
    """The account has as much under way as it may; the message says what to do. Trying again later can help."""

    http_status = 429
    title = "Too many"

    def facts(self) -> dict[str, Any]:
        return {"retry_after_seconds": WAIT_SECONDS}

    def __init__(self, owner: User, what: str, advice: str) -> None:
        most = environment().requests_in_flight
        super().__init__(
            f"{owner.username} has {most:,} {what}, the most that one account may have "
            f"(SIGNALBOX_REQUESTS_IN_FLIGHT). Nothing was begun. {advice}"
        )


def is_full(owner: User, under_way: QuerySet[Any]) -> bool:
    """Return whether the account has as much under way as it may; nobody adds to it until this transaction ends.

    `under_way`: rows of this account alone. At most as many as allowed are read. Call it inside a transaction, before
    any lock that others wait for.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [AdvisoryLock.IN_FLIGHT, owner.pk])
    most = environment().requests_in_flight
    return under_way.order_by()[:most].count() >= most
