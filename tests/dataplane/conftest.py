from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from django.db import connection

from console.environment import environment
from dataplane import versions
from dataplane.catalogue import HANDBOOK
from dataplane.contents.passages import PassageContent, PassageRow
from dataplane.contracts import RefreshOrder, RefreshOutcome
from dataplane.embedding import embedder
from dataplane.flows.transforms import embedded_text
from dataplane.refreshes.claim import claim
from stack.prefect import Prefect
from tests.waiting import eventually

from .fakes import FakePrefect, stand_in

FLOW_RUN = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def fake_prefect(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    """Stands in for Prefect in the views and the API."""
    return stand_in(monkeypatch)


@pytest.fixture
def database_url(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test database's address, told to everything that reads the environment."""
    known = connection.settings_dict
    password = f":{quote(known['PASSWORD'])}" if known["PASSWORD"] else ""
    url = f"postgresql://{known['USER']}{password}@{known['HOST']}:{known['PORT']}/{known['NAME']}"
    monkeypatch.setenv("DATABASE_URL", url)
    environment.cache_clear()
    yield url
    monkeypatch.undo()
    environment.cache_clear()


@pytest.fixture(scope="session")
def running_prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """One real server for the whole session: its first start takes 10 to 20 s."""
    server = Prefect(tmp_path_factory.mktemp("prefect state"))
    server.start()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SIGNALBOX_PREFECT_SECONDS", "60")  # it is slow beside other tests, and not away
        environment.cache_clear()
        yield server
    environment.cache_clear()
    server.stop()


@pytest.fixture
def prefect_server(running_prefect: Prefect) -> Prefect:
    """The server without what earlier tests left in it: their runs would be taken up, their schedules make more."""
    with httpx.Client(base_url=running_prefect.api_url, timeout=60) as http:
        for kind in ("deployments", "flow_runs"):  # a deployment that stays makes new runs
            eventually(partial(_is_emptied, http, kind), f"Prefect has forgotten its {kind}")
    return running_prefect


def _is_emptied(http: httpx.Client, kind: str) -> bool:
    """Delete what is there and look again: Prefect answers 503 while its own services hold its SQLite."""
    with suppress(httpx.TransportError):
        found = http.post(f"/{kind}/filter", json={})
        for one in found.json() if found.is_success else ():
            http.delete(f"/{kind}/{one['id']}")
        return found.is_success and not found.json()
    return False


def passage(text: str, *, document: str = "returns.md", heading: str = "Returns") -> PassageRow:
    return PassageRow(document, "Returns", heading, text, None, "current", "returns")


def content(*texts: str) -> PassageContent:
    rows = [passage(text) for text in texts]
    model = embedder()
    vectors = model.embed([embedded_text(row) for row in rows])
    return PassageContent(rows, vectors, model.name)


def publish(key: str, made: PassageContent, *, flow_run_id: str = FLOW_RUN) -> RefreshOutcome:
    """Claim a refresh and publish the content, as the flow does."""
    with claim(HANDBOOK, RefreshOrder("handbook", key), flow_run_id=flow_run_id) as claimed:
        if claimed.done is not None:
            return claimed.done
        return versions.publish(
            HANDBOOK, made, refresh_id=claimed.refresh_id, parameters=claimed.parameters, flow_run_id=flow_run_id
        )


def handbook(folder: Path, **documents: str) -> Path:
    """Write a small handbook; `returns="Send it back."` becomes returns.md with one section."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents.items():
        front = f"---\ntitle: {name.title()}\neffective: 2026-01-01\nstatus: current\ntopics: {name}\n---\n"
        (folder / f"{name}.md").write_text(f"{front}## {name.title()}\n{text}\n")
    return folder
