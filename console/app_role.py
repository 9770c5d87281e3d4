"""Two roles in the database: the owner of the tables, who migrates, and the app's, under which everything else works.

The app's role reads and writes rows. It makes, changes and empties no table, disables no trigger, and what is in
settings.APPEND_ONLY_TABLES it can only add to. In settings.SCHEMAS_OF_THE_APP alone it makes tables, none of which
holds anything that is not elsewhere. So neither a fault of the app nor somebody who speaks through it can
change the record. Where one role does everything, the app works too, and `loose_record` says so.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.db import ProgrammingError, connection, transaction
from psycopg.errors import InsufficientPrivilege

from console.environment import owner_database_url


@contextmanager
def as_owner() -> Iterator[str]:
    """Work as the owner of the tables inside the block; yield the name of the app's role.

    Yields "" and changes nothing where one role does everything. For commands: the whole process changes its role.
    """
    url = owner_database_url()
    app: dict[str, Any] = {name: settings.DATABASES["default"][name] for name in ("USER", "PASSWORD", "HOST", "PORT")}
    parts = urlsplit(url)
    owner = {
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",  # past a pooler, maybe; the database is the same
        "PORT": str(parts.port or 5432),
    }
    if not url or owner["USER"] == app["USER"]:
        yield ""
        return
    _become(owner)
    try:
        yield app["USER"]
    finally:
        _become(app)


def _become(role: dict[str, Any]) -> None:
    connection.close()
    close_pool = getattr(connection, "close_pool", None)
    if close_pool is not None:
        close_pool()
    settings.DATABASES["default"].update(role)
    connection.settings_dict.update(role)


_OWNED = """
SELECT format('%%I.%%I', n.nspname, c.relname), c.relname, c.relkind = 'S'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND pg_has_role(c.relowner, 'USAGE')
"""


def grant(role: str, schema: str) -> None:
    """Give the app's role its rights on everything of ours in the schema, as it is now; take all others away.

    Call it as the owner after every change of tables. One transaction: processes that work meanwhile notice nothing.
    """
    quote = connection.ops.quote_name
    to, within = quote(role), quote(schema)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_OWNED, [schema])
        for name, table, is_sequence in cursor.fetchall():
            rights = "SELECT, INSERT" if table in settings.APPEND_ONLY_TABLES else "SELECT, INSERT, UPDATE, DELETE"
            kind = "SEQUENCE" if is_sequence else "TABLE"
            cursor.execute(f"REVOKE ALL ON {kind} {name} FROM PUBLIC, {to}")
            cursor.execute(f"GRANT {'USAGE' if is_sequence else rights} ON {kind} {name} TO {to}")
        cursor.execute(f"GRANT USAGE ON SCHEMA {within} TO {to}")
        cursor.execute(
            "SELECT datname FROM pg_database WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE')"
        )
        ours = cursor.fetchone()
        if ours:  # a temporary table of the same name would be written to in place of the record
            cursor.execute(f"REVOKE TEMPORARY ON DATABASE {quote(ours[0])} FROM PUBLIC, {to}")


def let_make_tables(role: str) -> None:
    """Let the app's role make tables in the schemas that are its own, where those are there. Call it as the owner."""
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for schema in settings.SCHEMAS_OF_THE_APP:
            cursor.execute("SELECT to_regnamespace(%s) IS NOT NULL", [schema])
            if cursor.fetchone()[0]:
                cursor.execute(f"GRANT USAGE, CREATE ON SCHEMA {quote(schema)} TO {quote(role)}")


class NoExtension(Exception):
    """pgvector is not in this database, and this role cannot put it there; the message says who can, and how."""


def make_extension() -> None:
    """Make the extension `vector` unless it is there. Raises NoExtension. Call it as the owner of the tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'")
        if cursor.fetchone():
            return
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
        if cursor.fetchone() is None:
            cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
            major = cursor.fetchone()[0]
            raise NoExtension(
                f"pgvector is not installed on the PostgreSQL server at {_server()}. Install it there: the package "
                f"postgresql-{major}-pgvector of apt.postgresql.org, pgvector_{major} of yum.postgresql.org, the image "
                f"pgvector/pgvector:pg{major}, or from its source, https://github.com/pgvector/pgvector. "
                f"Then let a superuser run once:  {_as_superuser('CREATE EXTENSION vector')}"
            )
        try:
            with transaction.atomic():
                cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except ProgrammingError as exc:
            if not isinstance(exc.__cause__, InsufficientPrivilege):
                raise
            raise NoExtension(
                f"The role {connection.settings_dict['USER']} may not make the extension vector; that needs a "
                f"superuser, once:  {_as_superuser('CREATE EXTENSION vector')}  Then start this again: nothing else "
                "needs more rights than the role has."
            ) from exc


def what_is_missing(said: str) -> str:
    """Return in words what to do about a right that a migration lacked, with what PostgreSQL said."""
    said = said.splitlines()[0].removeprefix("Unable to create the django_migrations table (")
    user, name = connection.settings_dict["USER"], connection.settings_dict["NAME"]
    quote = connection.ops.quote_name
    if schema := re.search(r"for schema (\w+)", said):
        grant = f"GRANT USAGE, CREATE ON SCHEMA {quote(schema[1])} TO {quote(user)}"
    elif "for database" in said:
        grant = f"GRANT CREATE ON DATABASE {quote(name)} TO {quote(user)}"
    else:
        return (
            f"This database role, {user}, may not change tables ({said}). Set SIGNALBOX_OWNER_DATABASE_URL "
            "to the address of the role that owns them."
        )
    command = _as_superuser(grant)
    return f"The role {user} lacks a right ({said}). Let the database's owner or a superuser run:  {command}"


def _as_superuser(statement: str) -> str:
    at = connection.settings_dict
    place = ["-h", at["HOST"], "-p", str(at["PORT"])] if at["HOST"] else []
    return shlex.join(["psql", *place, "-U", "postgres", "-d", at["NAME"], "-c", statement])


def _server() -> str:
    return f"{connection.settings_dict['HOST']}:{connection.settings_dict['PORT']}"


_LOOSE = """
SELECT t.name FROM unnest(%s::text[]) AS t(name) JOIN pg_class c ON c.oid = to_regclass(t.name)
WHERE pg_has_role(c.relowner, 'MEMBER') OR has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER')
"""


def loose_record() -> str:
    """Say in a sentence when this process's role could change what it should only add to, "" when it cannot."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOSE, [settings.APPEND_ONLY_TABLES])
        loose = [row[0] for row in cursor.fetchall()]
    if not loose:
        return ""
    return (
        f"The app's database role could change {', '.join(loose)}: give it a role of its own, "
        "see SIGNALBOX_OWNER_DATABASE_URL."
    )
