"""What a request has written, of everything that the database keeps: to hold a refusal to having written nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connection, transaction

#: what a refused request may write: the browser's session, the count of tries that slows down who guesses, and when a
#: token was used last
MAY_BE_WRITTEN = ("django_session", "console_signincount", "console_apitoken")
RECORD = "approvals_auditevent"
#: what the record tells of refused tries to get in
REFUSALS = {"token.refused", "token.stopped"} | {
    f"account.{kind}" for kind in ("signin_refused", "signin_stopped", "signin_flood")
}


@dataclass(frozen=True)
class Rows:
    """How many rows each table has, and the number of the last transaction that wrote one of them.

    A savepoint has a number of its own, higher than all before; what it takes back is not there and counts for nothing.
    """

    many: dict[str, int]
    last_write: int

    @classmethod
    def now(cls) -> Rows:
        told = _asked("SELECT '{0}', count(*), coalesce(max(xmin::text::bigint), 0) FROM \"{0}\"")
        return cls({name: many for name, many, _ in told}, max(written for _, _, written in told))

    def written(self) -> list[str]:
        """Return the tables in which a later savepoint has added, changed or taken away a row, but for what may be.

        None where nothing can be asked: then the savepoint has failed, and all of it is taken back.
        """
        newer = f"count(*) FILTER (WHERE xmin::text::bigint > {self.last_write})"
        try:
            with transaction.atomic():
                refusals = self._records_refusals_alone()
                told = _asked("SELECT '{0}', count(*), " + newer + ' FROM "{0}"')
        except DatabaseError:
            return []
        found = {name for name, many, fresh in told if fresh or many != self.many[name]}
        return sorted(found - {RECORD} if refusals else found)

    def _records_refusals_alone(self) -> bool:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT kind FROM {RECORD} WHERE xmin::text::bigint > %s", [self.last_write])
            return all(kind in REFUSALS for (kind,) in cursor.fetchall())


def _asked(of_one_table: str) -> list[tuple[Any, ...]]:
    tables = [name for name in connection.introspection.table_names() if name not in MAY_BE_WRITTEN]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(of_one_table.format(name) for name in tables))
        told: list[tuple[Any, ...]] = cursor.fetchall()
    return told
