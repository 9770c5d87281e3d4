"""What may follow what in the life of a refresh, and the only two doors that move one: Django's and plain SQL's.

No Django and no psycopg is imported here: flows and the console share this table. A move that the table does not
allow changes nothing, and whoever asked is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from console.text.stored import storable
from dataplane.credentials import without_credentials

if TYPE_CHECKING:
    import psycopg
    from django.db.models import QuerySet

    from dataplane.models import Refresh

LONGEST_ERROR: Final = 2000  # characters of a reason that are kept
NOW: Final = "signalbox_now()"


class Status(StrEnum):
    """Where a refresh is."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    FINISHED = "finished"  # ended well with no version: somebody else's flow told of none, ours had none worth it
    FAILED = "failed"
    CANCELLED = "cancelled"


FIRST: Final = Status.SCHEDULED
OPEN: Final = (Status.SCHEDULED, Status.RUNNING)
#: Ended well. A failed refresh is taken up again by Prefect's own retry, or by a flow run that a person starts.
DONE: Final = frozenset({Status.PUBLISHED, Status.UNCHANGED})
ENDED_WELL: Final = frozenset({*DONE, Status.FINISHED})
_ENDS: Final = frozenset({*ENDED_WELL, Status.FAILED})
#: From a state to those that may follow. An open state follows itself when its flow run died and is started again; a
#: run whose lock was lost with its connection may still publish what somebody else has set back or called failed.
FOLLOWING: Final[Mapping[Status, frozenset[Status]]] = {
    Status.SCHEDULED: frozenset({*OPEN, *_ENDS, Status.CANCELLED}),
    Status.RUNNING: frozenset({*OPEN, *_ENDS, Status.CANCELLED}),
    Status.FAILED: frozenset({Status.SCHEDULED, Status.RUNNING, *_ENDS}),
    Status.PUBLISHED: frozenset(),
    Status.UNCHANGED: frozenset(),
    Status.FINISHED: DONE | {Status.FAILED},  # the word of a version, or of one that is refused, may come later
    Status.CANCELLED: frozenset(),
}


def before(status: Status) -> list[str]:
    """Return the states that the given one may follow."""
    return [earlier.value for earlier, following in FOLLOWING.items() if status in following]


def move(rows: QuerySet[Refresh], to: Status, **changes: Any) -> int:
    """Move those of the rows that may go there, with the changes; return how many went. Used by the console."""
    return rows.filter(status__in=before(to)).update(status=to, **_told(changes))


def move_in_sql(connection: psycopg.Connection[Any], refresh_id: str, to: Status, **changes: Any) -> bool:
    """Move one refresh, if it may go there, with the changes; return whether it went. Used by flows.

    `changes`: column to value; `states.NOW` is the database's time.
    """
    assignments, values = ["status = %s"], [to.value]
    for column, value in _told(changes).items():
        if value is NOW:
            assignments.append(f"{column} = {NOW}")
        else:
            assignments.append(f"{column} = %s")
            values.append(value)
    done = connection.execute(
        f"UPDATE dataplane_refresh SET {', '.join(assignments)} WHERE id = %s AND status = ANY(%s)",
        [*values, refresh_id, before(to)],
    )
    return done.rowcount == 1


def _told(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes as they are kept: a reason holds no password and no NUL, and is not endless."""
    error = changes.get("error")
    if not error:
        return dict(changes)
    return {**changes, "error": without_credentials(storable(error[: 10 * LONGEST_ERROR]))[:LONGEST_ERROR]}
