"""The app's database role: it works with every table, and can only add to the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg import errors

from console import app_role, environment, health
from stack.postgres import APP_ROLE, ROLE, SUPERUSER, Postgres
from stack.services import PROJECT
from stack.state import Addresses
from tests import session_postgres

TABLES = ["approvals_auditevent", "approvals_comment", "approvals_decision", "approvals_proposalversion"]
APPEND_ONLY = [pytest.param(table, id=table) for table in TABLES]


def test_what_a_trigger_keeps_as_it_is_the_apps_role_can_only_add_to(app: psycopg.Connection[Any]) -> None:
    found = app.execute(
        "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname ~ '^pgtrigger_.*_stays_' ORDER BY 1"
    )
    assert [row[0] for row in found] == settings.APPEND_ONLY_TABLES == TABLES


@pytest.fixture(scope="module")
def app_url(django_db_setup: None, django_db_blocker: Any) -> str:
    server = session_postgres.SERVER
    server.ensure_app_role()
    server.ensure_app_role()  # safe to repeat
    with django_db_blocker.unblock():
        app_role.grant(APP_ROLE, "public")
        app_role.grant(APP_ROLE, "agent")
        connection.close()
    return server.url(connection.settings_dict["NAME"], APP_ROLE)


@pytest.fixture
def app(app_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(app_url, autocommit=True) as connected:
        yield connected


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET {column} = {column}",
        "UPDATE {table} SET {column} = {column} WHERE false",
        "DELETE FROM {table}",
        "DELETE FROM {table} WHERE false",
        "TRUNCATE {table} CASCADE",
        "DROP TABLE {table} CASCADE",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} DISABLE TRIGGER USER",
        "ALTER TABLE {table} OWNER TO CURRENT_USER",
        "ALTER TABLE {table} ADD COLUMN more text",
        "DROP TRIGGER {trigger} ON {table}",
        "CREATE TRIGGER quiet BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE quiet AS ON INSERT TO {table} DO INSTEAD NOTHING",
        "SELECT 1 FROM {table} FOR UPDATE",
        "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
        "GRANT ALL ON {table} TO CURRENT_USER",
    ],
)
def test_the_apps_role_can_only_add_to_the_record(app: psycopg.Connection[Any], table: str, statement: str) -> None:
    found = app.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", [table])
    trigger = found.fetchone()
    assert trigger is not None
    first = app.execute("SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1", [table])
    column = first.fetchone()
    assert column is not None
    if statement.startswith("GRANT"):
        # PostgreSQL only warns where somebody hands on what he has not got.
        app.execute(statement.format(table=table))
        assert app.execute("SELECT has_table_privilege(%s, 'UPDATE, DELETE, TRUNCATE')", [table]).fetchone() == (False,)
        return
    with pytest.raises(errors.InsufficientPrivilege), app.transaction():
        app.execute(statement.format(table=table, column=column[0], trigger=trigger[0]))


@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "SET ROLE signalbox",
        "SET SESSION AUTHORIZATION signalbox",
        "CREATE TABLE mine (a int)",
        "CREATE TEMPORARY TABLE approvals_auditevent (a int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "CREATE OR REPLACE FUNCTION signalbox_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "DROP FUNCTION signalbox_now() CASCADE",
        "ALTER ROLE signalbox_app SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "ALTER TABLE agent.checkpoints ADD COLUMN more text",
        "TRUNCATE auth_user CASCADE",
    ],
)
def test_the_apps_role_changes_no_table_and_becomes_nobody_else(app: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute(statement)


def test_the_apps_role_reads_and_writes_rows_and_adds_to_the_record(app: psycopg.Connection[Any]) -> None:
    with app.transaction(force_rollback=True):
        app.execute("INSERT INTO console_partheartbeat (part, instance, detail) VALUES ('relay', 'x', '')")
        app.execute("UPDATE console_partheartbeat SET detail = 'y'")
        app.execute("DELETE FROM console_partheartbeat")
        app.execute(
            "INSERT INTO approvals_auditevent (at, actor, kind, subject, body, previous, digest)"
            " VALUES (signalbox_now(), 'a', 'k', 's', '{}', '', 'd')"
        )
        app.execute("SELECT * FROM agent.checkpoints")


def test_a_row_that_the_record_points_to_cannot_take_it_along(app: psycopg.Connection[Any]) -> None:
    """Deleting an approval or a person must not cascade into decisions."""
    found = app.execute(
        "SELECT conname FROM pg_constraint"
        " WHERE contype = 'f' AND confdeltype <> 'a' AND conrelid = ANY(%s::regclass[])",
        [settings.APPEND_ONLY_TABLES],
    )
    assert found.fetchall() == []


@pytest.mark.django_db
def test_the_owner_is_told_that_he_could_change_the_record() -> None:
    assert "could change approvals_auditevent, " in app_role.loose_record()
    _, report = health.report()
    assert "could change" in report["parts"]["postgres"]["detail"]


def loose(app: psycopg.Connection[Any]) -> list[str]:
    return [row[0] for row in app.execute(app_role._LOOSE, [settings.APPEND_ONLY_TABLES])]


@pytest.mark.parametrize("right", ["UPDATE", "DELETE", "TRUNCATE", "TRIGGER"])
def test_the_apps_role_is_told_nothing_until_it_has_a_right_too_many(app: psycopg.Connection[Any], right: str) -> None:
    assert loose(app) == []
    with psycopg.connect(session_postgres.SERVER.url(app.info.dbname), autocommit=True) as owner:
        owner.execute(f"GRANT {right} ON approvals_auditevent TO {APP_ROLE}")
        try:
            assert loose(app) == ["approvals_auditevent"]
        finally:
            owner.execute(f"REVOKE {right} ON approvals_auditevent FROM {APP_ROLE}")


def test_the_apps_role_is_told_when_it_could_become_the_owner(app: psycopg.Connection[Any]) -> None:
    url = session_postgres.SERVER.url(app.info.dbname, SUPERUSER)
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute(f"GRANT {ROLE} TO {APP_ROLE} WITH INHERIT FALSE")
        try:
            assert sorted(loose(app)) == TABLES
        finally:
            superuser.execute(f"REVOKE {ROLE} FROM {APP_ROLE}")


def test_the_owner_is_known_for_the_stacks_own_database_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Addresses(database_url="postgresql://app@h/x", owner_database_url="postgresql://owner@h/x").write(tmp_path)
    for url, owner in (("postgresql://app@h/x", "postgresql://owner@h/x"), ("postgresql://app@other/x", "")):
        given = environment.Environment(SIGNALBOX_HOME=tmp_path, DATABASE_URL=url)
        monkeypatch.setattr(environment, "environment", lambda given=given: given)
        assert environment.owner_database_url() == owner


_ROWS_OF_BEFORE = f"""
INSERT INTO auth_user (id, username, password, is_superuser, first_name, last_name, email, is_staff, is_active,
                       date_joined)
VALUES (1000, 'somebody', '', false, '', '', '', false, true, now());
INSERT INTO approvals_approval (id, external_id, kind, status, version, canonical, digest, tool, summary, agent_words,
    arguments_schema, risk, agent, run_id, interrupt_id, checkpoint_id, dataset_versions, policy_version, audience,
    verdicts, needed, ladder, steps_climbed, opened_at, due_at)
VALUES ('apr_1', 'e', 'action', 'decided', 1, '{{}}', '{"d" * 64}', 'refund', 's', '', '{{}}', 'high', 'a', 'r', 'i',
    '', '[]', 'p', '[]', '[]', 1, '[]', 0, now(), now());
INSERT INTO approvals_decision (id, approval_id, by_id, verdict, note, version, digest, channel, idempotency_key,
    body_digest)
VALUES ('dec_1', 'apr_1', 1000, 'approve', '', 1, '{"d" * 64}', 'page', '', '');
"""


def test_a_state_folder_of_before_keeps_its_data_and_gets_the_role(tmp_path: Path) -> None:
    """The first migration runs as it did before there was a second role, the second one as a start does now."""
    home = tmp_path / "home"
    home.mkdir()

    def manage(*argv: str, fails: bool = False, **changes: Any) -> str:
        kept = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        done = subprocess.run(
            [sys.executable, "manage.py", *argv],
            cwd=PROJECT,
            env={**kept, "SIGNALBOX_HOME": str(home), **changes},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    with Postgres(home) as server:
        assert isinstance(server, Postgres)
        for which in (["auth"], ["approvals", "0001"]):
            manage("migrate", *which, "-v0", DATABASE_URL=server.url())
        with psycopg.connect(server.url()) as owner:
            owner.execute(_ROWS_OF_BEFORE)
        server.ensure_app_role()
        Addresses(database_url=server.url(user=APP_ROLE), owner_database_url=server.url()).write(home)
        manage("migrate", "-v0")  # every table of today, under the owner, with rights for the app's role
        manage("setup_checkpoints")
        with psycopg.connect(server.url(user=APP_ROLE)) as app:
            kept = app.execute(
                "SELECT d.for_version, d.for_digest, v.digest, v.canonical FROM approvals_decision d"
                " JOIN approvals_proposalversion v ON v.approval_id = d.approval_id AND v.version = d.for_version"
            )
            assert kept.fetchall() == [(1, "d" * 64, "d" * 64, b"{}")]
            assert app.execute("SELECT count(*) FROM agent.checkpoints").fetchone() == (0,)
            with pytest.raises(errors.InsufficientPrivilege):
                app.execute("DELETE FROM approvals_auditevent")
        said = manage("verify_audit")
        assert "could change" not in said
        alone: dict[str, Any] = {
            "DATABASE_URL": server.url(user=APP_ROLE),
            "SIGNALBOX_HOME": str(tmp_path / "no stack"),
        }
        said = manage("migrate", "sessions", "zero", fails=True, **alone)
        assert "Set SIGNALBOX_OWNER_DATABASE_URL" in said and "Traceback" not in said
        manage("migrate", "-v0", SIGNALBOX_OWNER_DATABASE_URL=server.url(), **alone)
        manage("create_demo_accounts", "--file", str(home / "accounts.json"))
        assert len(json.loads((home / "accounts.json").read_text())) == 6
    assert server.app_password != server.password
