"""Whether a change waits for another one's row while it holds the record's chain, for which everybody else waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection, connections, transaction
from django.db.models import Model

from console.locks import AdvisoryLock
from tests.at_once import until_somebody_waits


def locks_before_it_records(change: Callable[[], Any], row: Model) -> bool:
    """Return whether the change does not hold the chain while it waits for the row, and let it end.

    The row is held as by somebody who then waits for the chain, such as a decision that holds an approval. What the
    change raises is raised here.
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
        type(row)._default_manager.select_for_update(no_key=True).get(pk=row.pk)
        other.start()
        until_somebody_waits()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [int(AdvisoryLock.AUDIT_CHAIN)])
            (is_free,) = cursor.fetchone()
    other.join()
    if raised:
        raise raised[0]
    return bool(is_free)
