"""Why a PostgreSQL that is somebody else's cannot be used: its own words, and what to do."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote, urlsplit

#: a part of PostgreSQL's or libpq's words -> what to do; the first that is found counts
_ADVICE: Final = (
    ("password authentication failed", "User or password in DATABASE_URL is wrong."),
    ("no password supplied", "DATABASE_URL names no password: postgresql://user:password@host:port/name."),
    (
        "no encryption",
        "The server may want TLS for this, or its pg_hba.conf needs an entry.",
    ),
    ("no pg_hba.conf entry", "The server's pg_hba.conf has no entry for this user, database and address."),
    ("pg_hba.conf rejects", "The server's pg_hba.conf forbids this user, database and address."),
    ("SSL", "DATABASE_URL may say how TLS is used: ?sslmode=require, or verify-full with sslrootcert."),
    ("too many clients", "The server's max_connections is reached; it goes on when some are given back."),
    ("remaining connection slots", "The server's max_connections is reached; it goes on when some are given back."),
    ("too many connections", "A limit of this role or database is reached; it goes on when some are given back."),
    ("is not permitted to log in", "The role needs the right to log in: ALTER ROLE ... LOGIN."),
    ("role", "Make the role in DATABASE_URL, or name another one."),
    ("does not exist", "Make the database that DATABASE_URL names, or name another one."),
    ("is starting up", "It goes on by itself."),
    ("Connection refused", "Nobody listens there."),
)


def refusal(database_url: str) -> str:
    """Return in one line why the database does not take clients, "" when it does. Holds no password.

    `database_url`: an address, or libpq's connection string.
    """
    import psycopg

    try:
        psycopg.connect(database_url, connect_timeout=3).close()
    except (psycopg.Error, UnicodeError) as error:
        return in_words(str(error), database_url)
    return ""


def in_words(reason: str, database_url: str = "") -> str:
    """Return the reason in one line with what to do about it."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    # With several addresses libpq tells of each try; the last one is the answer, the others are "Multiple ..." lines.
    said = " ".join(lines).removeprefix("connection failed: ")
    advice = next((words for part, words in _ADVICE if part in said), "")
    return _without_password(f"{said.rstrip('.')}. {advice}".strip(), database_url)


def _without_password(words: str, database_url: str) -> str:
    """An address that cannot be read is quoted by libpq, password and all."""
    words = words.replace(database_url, "DATABASE_URL") if database_url else words
    try:
        password = urlsplit(database_url).password or ""
    except ValueError:
        password = ""
    for secret in {password, unquote(password), quote(unquote(password))}:
        if len(secret) >= 3:
            words = words.replace(secret, "***")
    return words
