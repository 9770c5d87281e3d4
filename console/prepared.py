"""Whether the tables of a database are those of this very code, so that a start can leave the migrations out.

`manage.py prepare_database` keeps, in the database itself, a fingerprint of the code that last brought it up to date.
A restored backup brings its own back; whatever else migrates takes it away first. So what is kept is never newer than
the tables, and a wrong answer costs one migration that has nothing to do.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg
from django.db import connection

from console.environment import PROJECT

_PACKAGES = ("approvals", "console", "dataplane", "orchestration")  # what has migrations, and what they import


def fingerprint() -> str:
    """Return the SHA-256, hex, of our apps' Python files and of the lock file: it changes with any of them."""
    digest = hashlib.sha256()
    files = [PROJECT / "uv.lock", *sorted(path for name in _PACKAGES for path in (PROJECT / name).rglob("*.py"))]
    for path in files:
        digest.update(f"{path.relative_to(PROJECT)}\0".encode() + _content(path) + b"\0")
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # removed while we read, or no lock file in an installed copy
        return b""


def is_up_to_date(database_url: str) -> bool:
    """Return whether this code has nothing to change in that database; False also when nobody can tell."""
    try:
        with psycopg.connect(database_url, connect_timeout=5, autocommit=True) as asked:
            if asked.execute("SELECT to_regclass('console_preparedtables')").fetchone() == (None,):
                return False
            kept = asked.execute("SELECT fingerprint FROM console_preparedtables").fetchone()
    except psycopg.Error:
        return False
    return kept is not None and kept[0] == fingerprint()


def forget() -> None:
    """Take the fingerprint away, before the tables change. Call it as the tables' owner."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('console_preparedtables')")
        if cursor.fetchone() != (None,):
            cursor.execute("DELETE FROM console_preparedtables")


def note() -> None:
    """Keep the fingerprint, after the tables have changed. Safe to repeat."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO console_preparedtables (id, fingerprint) VALUES (1, %s)"
            " ON CONFLICT (id) DO UPDATE SET fingerprint = EXCLUDED.fingerprint, prepared_at = statement_timestamp()",
            [fingerprint()],
        )
