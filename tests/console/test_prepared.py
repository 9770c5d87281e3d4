"""A start leaves the migrations out only where this very code has brought these very tables up to date."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from console import prepared
from console.environment import PROJECT
from stack.postgres import Postgres
from stack.services import inherited_environment


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("prepared")) as running:
        assert isinstance(running, Postgres)
        yield running


def manage(server: Postgres, *argv: str) -> None:
    environment = inherited_environment() | {"SIGNALBOX_HOME": str(server.home), "DATABASE_URL": server.url()}
    done = subprocess.run(
        [sys.executable, "manage.py", *argv], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tables_are_up_to_date_until_anything_else_changes_them(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not prepared.is_up_to_date(server.url())
    manage(server, "prepare_database")
    assert prepared.is_up_to_date(server.url())
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT to_regclass('agent.checkpoints')").fetchone() != (None,)

    with monkeypatch.context() as later:
        later.setattr(prepared, "fingerprint", lambda: "of other code")
        assert not prepared.is_up_to_date(server.url())

    manage(server, "migrate", "sessions", "zero")
    assert not prepared.is_up_to_date(server.url())
    manage(server, "prepare_database")
    assert prepared.is_up_to_date(server.url())
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT to_regclass('django_session')").fetchone() != (None,)


def test_a_database_that_does_not_answer_is_not_up_to_date() -> None:
    assert not prepared.is_up_to_date("postgresql://nobody@127.0.0.1:1/nothing")


def test_any_changed_file_of_the_apps_is_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "PROJECT", tmp_path)
    migrations = tmp_path / "approvals" / "migrations"
    migrations.mkdir(parents=True)
    fingerprints = {prepared.fingerprint()}
    for path in (migrations / "0001_first.py", migrations / "0002_second.py", tmp_path / "uv.lock"):
        path.write_text("one")
        fingerprints.add(prepared.fingerprint())
        path.write_text("another")
        fingerprints.add(prepared.fingerprint())
    assert len(fingerprints) == 7
