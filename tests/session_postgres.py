"""A pytest plugin: one PostgreSQL for the whole session, its address known before Django reads its settings.

Loaded by `-p tests.session_postgres` (pyproject.toml). The server itself is started by the first test that needs a
database, so that tests without one stay quick.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from stack.ports import LOOPBACK
from stack.postgres import Postgres

HOME = Path(tempfile.mkdtemp(prefix="signalbox-tests-"))

# Nothing of the person's own environment, and nothing of a stack that runs beside, may reach the tests.
for name in [name for name in os.environ if name.startswith(("SIGNALBOX_", "TEMPORAL_", "PREFECT_", "OPENAI_"))]:
    if name != "SIGNALBOX_CACHE":
        del os.environ[name]
os.environ["SIGNALBOX_HOME"] = str(HOME)
(HOME / "static").mkdir()  # WhiteNoise warns without it, and a warning is an error here
os.environ["SIGNALBOX_SECRET_KEY"] = "only for tests"
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's sync API runs a loop in the test's thread
# What a cut of the power would lose is no loss here; a killed server still loses nothing that was committed.
SERVER = Postgres(HOME, settings={"fsync": "off", "full_page_writes": "off"})
os.environ["DATABASE_URL"] = SERVER.url()
_PLACE = socket.socket()
_PLACE.bind((LOOPBACK, SERVER.port))  # kept until the server starts, so that no other session takes the port


def start() -> None:
    """Start the session's server, once."""
    SERVER.prepare(lambda line: None)
    _PLACE.close()
    SERVER.start()


def pytest_unconfigure(config: pytest.Config) -> None:
    _PLACE.close()
    if SERVER.process is not None:
        SERVER.stop()
    shutil.rmtree(HOME, ignore_errors=True)
