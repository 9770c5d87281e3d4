"""Whether a change waits for another one's row while it holds the record's chain, for which everybody else waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections, transaction

from approvals.models import Approval
from console.locks import AdvisoryLock
from tests.at_once import until_somebody_waits


def locks_before_it_records(change: Callable[[], Any], approval: Approval) -> bool:
    """Return whether the change does not hold the chain while it waits for the approval, and let it end.

    The approval is held as a decision holds it, which then waits for the chain. What the change raises is raised here.
    """
    raised: list[BaseException] = []

    def work() -> None:
        try:
            change()
        except BaseException as exc:  # noqa: BLE001  it is raised where the test sees it
            raised.append(exc)
        finally:
            connections.close_all()

    other = threading.Thread(target=work)
    with transaction.atomic():
        Approval.objects.select_for_update(no_key=True).get(pk=approval.pk)
        other.start()
        until_somebody_waits()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int(AdvisoryLock.AUDIT_CHAIN)])
            (is_free,) = cursor.fetchone()
    other.join()
    if raised:
        raise raised[0]
    return bool(is_free)
