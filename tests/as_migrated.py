"""What migrations left in the test database, and the way back to it after a test that commits.

Django empties every table by TRUNCATE and makes content types and permissions anew: half a second of work for each
such test, and the roles that a migration made are gone for the tests after it. Here each finds what the first found.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

from stack.postgres import SUPERUSER
from tests import session_postgres

_COPIES = "as_migrated"  # a schema of its own, which no test looks into
#: what stands guard over the rows: a test that leaves one of them otherwise takes it from all tests after it
_GUARDS = """
    SELECT tgrelid::regclass || ': ' || tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT proname, md5(prosrc) FROM pg_proc JOIN pg_language ON pg_language.oid = prolang
     WHERE pronamespace = 'public'::regnamespace AND lanname IN ('sql', 'plpgsql')
"""
_rows: dict[str, str] = {}  # table -> digest of its rows, "" for an empty one
_guards: dict[str, str] = {}


def keep() -> None:
    """Remember the rows of every table, and the triggers and functions."""
    with _as_superuser() as owner:
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        _rows.update(_digests(owner, tables))
        _guards.update(owner.execute(_GUARDS).fetchall())
        owner.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_COPIES)))
        for table in (table for table, digest in _rows.items() if digest):
            owner.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(_copy_of(table), _original(table)))


def restore() -> None:
    """Bring every table back. Fails if a trigger or a function is not as it was."""
    connection.close()
    while not _is_restored():
        pass  # a process that a test started, and that beats on, was let go first


def _is_restored() -> bool:
    """Return whether every table could be taken from what still writes."""
    try:
        guards = _restored()
    except psycopg.errors.DeadlockDetected:
        return False
    changed = sorted(name for name in guards.keys() | _guards.keys() if guards.get(name) != _guards.get(name))
    _guards.clear()
    _guards.update(guards)  # so that the tests after it are not blamed
    assert not changed, f"the test left these triggers or functions otherwise than it found them: {changed}"
    return True


def _restored() -> dict[str, str]:
    with _as_superuser() as owner:
        # Waits for what still writes or has locked a row, so that nothing of it comes afterwards. Where both wait for
        # each other it is we who find out first, and give way.
        owner.execute("SET LOCAL deadlock_timeout = '20ms'")
        locked = sql.SQL(", ").join(map(_original, _rows))
        owner.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(locked))
        owner.execute("SET LOCAL session_replication_role = replica")  # no trigger and no foreign key is in the way
        for table, digest in _digests(owner, list(_rows)).items():
            if digest != _rows[table]:
                owner.execute(sql.SQL("DELETE FROM {}").format(_original(table)))
                if _rows[table]:
                    back = sql.SQL("INSERT INTO {} OVERRIDING SYSTEM VALUE TABLE {}")
                    owner.execute(back.format(_original(table), _copy_of(table)))
        return dict(owner.execute(_GUARDS).fetchall())


def _digests(owner: psycopg.Connection[Any], tables: list[str]) -> dict[str, str]:
    one = sql.SQL("SELECT {}, coalesce(md5(string_agg(row::text, '|' ORDER BY row::text)), '') FROM {} AS row")
    every = sql.SQL(" UNION ALL ").join(one.format(sql.Literal(table), _original(table)) for table in tables)
    return dict(owner.execute(every).fetchall())


def _as_superuser() -> psycopg.Connection[Any]:
    return psycopg.connect(session_postgres.SERVER.url(connection.settings_dict["NAME"], SUPERUSER))


def _original(table: str) -> sql.Identifier:
    return sql.Identifier("public", table)


def _copy_of(table: str) -> sql.Identifier:
    return sql.Identifier(_COPIES, table)
