"""A PostgreSQL that is somebody else's: its own reasons, an owner without rights, and pgvector that is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from console.environment import PROJECT, Environment
from console.postgres_refusal import in_words, refusal
from stack.ports import free_port
from stack.postgres import SUPERUSER, Postgres

PASSWORD = "a p@ss/word"
ENCODED = "a%20p%40ss%2Fword"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("their postgres")) as running:
        assert isinstance(running, Postgres)
        yield running


def as_superuser(server: Postgres, *statements: sql.SQL | sql.Composed, database: str = "postgres") -> None:
    with psycopg.connect(server.url(database=database, user=SUPERUSER), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def owner(server: Postgres) -> Iterator[str]:
    """The address of a new, empty database for its owner, an ordinary role; pgvector is not in it."""
    name = sql.Identifier("plain")
    as_superuser(
        server,
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(PASSWORD)),
        sql.SQL("CREATE DATABASE {0} OWNER {0} TEMPLATE template0").format(name),
    )
    yield f"postgresql://plain:{ENCODED}@127.0.0.1:{server.port}/plain"
    as_superuser(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name), sql.SQL("DROP ROLE {}").format(name))


def manage(home: Path, database_url: str, *command: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=PROJECT,
        env=environment | {"DATABASE_URL": database_url, "SIGNALBOX_HOME": str(home), "SIGNALBOX_SECRET_KEY": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_each_refusal_is_quoted_with_what_to_do(server: Postgres, owner: str) -> None:
    host = f"127.0.0.1:{server.port}"
    cases = {
        f"postgresql://plain:wrong-one@{host}/plain": ("password authentication failed", "User or password"),
        f"postgresql://nobody:wrong-one@{host}/plain": ("password authentication failed", "User or password"),
        f"postgresql://plain@{host}/plain": ("no password supplied", "names no password"),
        f"postgresql://plain:{ENCODED}@{host}/other": ('database "other" does not exist', "Make the database"),
        f"postgresql://plain:{ENCODED}@{host}/plain?sslmode=require": ("does not support SSL", "?sslmode="),
        f"postgresql://plain:{ENCODED}@127.0.0.1:{free_port()}/plain": ("Connection refused", "Nobody listens there"),
    }
    assert refusal(owner) == ""
    for url, wanted in cases.items():
        said = refusal(url)
        assert "\n" not in said and "wrong-one" not in said and PASSWORD not in said and ENCODED not in said
        for words in wanted:
            assert words in said, (url, said)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption', "may want TLS"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", SSL encryption', "has no entry"),
        ("FATAL:  sorry, too many clients already", "max_connections is reached"),
        ('FATAL:  remaining connection slots are reserved for roles with the "SUPERUSER" attribute', "max_connections"),
        ('FATAL:  too many connections for role "u"', "A limit of this role"),
        ('FATAL:  role "u" is not permitted to log in', "ALTER ROLE"),
        ('FATAL:  role "u" does not exist', "Make the role"),
        ("FATAL:  the database system is starting up", "by itself"),
        ("server does not support SSL, but SSL was required", "sslmode"),
    ],
)
def test_what_only_other_servers_say_has_its_advice_too(said: str, advice: str) -> None:
    words = in_words(f'connection failed: connection to server at "h", port 5432 failed: {said}', "")
    assert said in words and advice in words


def test_too_many_clients_is_said_by_the_server_itself(server: Postgres, owner: str) -> None:
    as_superuser(server, sql.SQL("ALTER ROLE plain CONNECTION LIMIT 1"))
    with psycopg.connect(owner):
        assert 'too many connections for role "plain"' in refusal(owner)


@pytest.mark.parametrize("url", ["postgresql://u:pa/ss:wo@rd@h:1/d", "mysql://u:secret-one@h/d", "u:secret-one@h"])
def test_an_address_that_cannot_be_read_is_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="write postgresql://user:password@host:port/name") as told:
        Environment(DATABASE_URL=url)
    assert "secret-one" not in str(told.value) and "pa/ss" not in str(told.value)


def test_an_owner_that_is_no_superuser_is_told_once_who_must_run_what(
    server: Postgres, owner: str, tmp_path: Path
) -> None:
    status, said = manage(tmp_path, owner, "migrate", "--noinput")
    command = f"psql -h 127.0.0.1 -p {server.port} -U postgres -d plain -c 'CREATE EXTENSION vector'"
    assert status == 1 and command in said and "Traceback" not in said
    assert "SIGNALBOX_OWNER_DATABASE_URL" not in said
    as_superuser(server, sql.SQL("CREATE EXTENSION vector"), database="plain")
    for done in (("migrate", "--noinput"), ("setup_checkpoints",), ("migrate", "--check")):
        status, said = manage(tmp_path, owner, *done)
        assert status == 0, said


def test_a_role_that_may_make_nothing_is_told_which_right_it_lacks(
    server: Postgres, owner: str, tmp_path: Path
) -> None:
    as_superuser(server, sql.SQL("ALTER DATABASE plain OWNER TO postgres"))
    as_superuser(server, sql.SQL("CREATE EXTENSION vector"), database="plain")
    status, said = manage(tmp_path, owner, "migrate", "--noinput")
    assert status == 1 and 'GRANT USAGE, CREATE ON SCHEMA "public" TO "plain"' in said
    assert "Traceback" not in said
    status, said = manage(tmp_path, owner, "setup_checkpoints")
    assert status == 1 and 'GRANT CREATE ON DATABASE "plain" TO "plain"' in said and "Traceback" not in said


def test_migrating_with_a_wrong_password_quotes_the_server(server: Postgres, tmp_path: Path) -> None:
    status, said = manage(tmp_path, f"postgresql://plain:wrong-one@127.0.0.1:{server.port}/plain", "migrate")
    assert status == 1 and "password authentication failed" in said
    assert "Traceback" not in said and "wrong-one" not in said


def test_a_server_without_pgvector_is_told_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "their postgres").mkdir()
    settings = {"extension_control_path": str(tmp_path / "nothing here")}
    with Postgres(tmp_path / "their postgres", settings=settings) as running:
        assert isinstance(running, Postgres)
        as_superuser(running, sql.SQL("CREATE DATABASE bare OWNER signalbox TEMPLATE template0"))
        status, said = manage(tmp_path, running.url(database="bare"), "migrate", "--noinput")
    assert status == 1 and "pgvector is not installed on the PostgreSQL server at 127.0.0.1" in said
    assert "postgresql-18-pgvector" in said and "CREATE EXTENSION vector" in said and "Traceback" not in said
