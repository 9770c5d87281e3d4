"""Every text of the corpus on the pages of the data plane: what Prefect says, why a refresh failed, documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from console.clock import database_now
from dataplane import views
from dataplane.catalogue import HANDBOOK
from dataplane.embedding import DIMENSIONS
from dataplane.models import Dataset, DatasetVersion, Passage, Refresh
from dataplane.prefect_gateway import LogLine
from tests.dataplane.fakes import FakePrefect, stand_in

from .conftest import HARMLESS, SHOWN, Elements, ReadPage, hidden_from_readers, not_shown, read_with_fields
from .corpus import CORPUS

TOGETHER = views.REFRESHES_SHOWN  # texts on one page


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    return stand_in(monkeypatch)


def _write(prefect: FakePrefect, texts: Sequence[str]) -> list[str]:
    """Write the texts wherever Prefect, a flow or a document can put one; return the flow runs' ids."""
    dataset = Dataset.objects.create(name=HANDBOOK.name, title=HANDBOOK.title, fresh_for=HANDBOOK.fresh_for)
    version = DatasetVersion.objects.create(
        dataset=dataset,
        version=1,
        digest="d",
        rows=len(texts),
        embedder=texts[0][:100],
        parameters={"t": texts[0]},
        prefect_flow_run_id=str(uuid4()),
    )
    Passage.objects.bulk_create(
        Passage(
            version=version,
            position=position,
            document=text[:200],
            title=text[:300],
            heading=text[:300],
            text=text,
            status=text[:40],
            embedding=[0.0] * DIMENSIONS,
        )
        for position, text in enumerate(texts)
    )
    prefect.runs.clear()
    made = []
    for number, text in enumerate(texts):
        run = prefect.create_flow_run(
            flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={text: text}, idempotency_key=text, name=text
        )
        prefect.runs[run.id] = replace(
            run, flow=text, deployment=text, state_type="FAILED", state_name=text, state_message=text
        )
        prefect.lines[run.id] = [LogLine(datetime.now(UTC), level, text, "") for level in ("info", "error", text)]
        Refresh.objects.create(
            id=f"rfr_{number}",
            dataset=dataset,
            key=text[:100],
            parameters={},
            status="failed",
            error=text,
            prefect_flow_run_id=run.id,
            created_at=database_now(),
        )
        made.append(run.id)
    return made


def _pages(reader: Client, prefect: FakePrefect, texts: Sequence[str]) -> dict[str, list[ReadPage]]:
    """Return the pages by what they are about; those of flow runs in the order of the texts."""
    texts = [text.replace("\x00", "") for text in texts]  # which PostgreSQL does not take

    def read(name: str, *args: object) -> ReadPage:
        response = reader.get(reverse(f"dataplane:{name}", args=args))
        assert response.status_code == 200, (name, response.status_code)
        return read_with_fields(response.content.decode())

    with transaction.atomic():
        with connection.cursor() as cursor:  # a busy machine takes its time between two pages
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        runs = _write(prefect, texts)
        pages = {"data": [read("data")], "version": [read("version", HANDBOOK.name, 1)]}
        pages["flow_run"] = [read("flow_run", one) for one in runs]
        transaction.set_rollback(True)
    return pages


#: how often a page shows a text: on the Data page in two lists
TIMES = {"data": 5, "version": 4, "flow_run": 8}


@pytest.mark.django_db
def test_no_page_of_the_data_plane_hides_a_character_or_makes_an_element(reader: Client, prefect: FakePrefect) -> None:
    harmless: dict[str, Elements] = {}
    for texts in (HARMLESS[:2], HARMLESS[1:], HARMLESS):
        for name, pages in _pages(reader, prefect, texts).items():
            harmless[name] = harmless.get(name, set()).union(*(page.elements for page in pages))
    faults = []
    for start in range(0, len(CORPUS), TOGETHER):
        bundle = CORPUS[start : start + TOGETHER]
        for name, pages in _pages(reader, prefect, [hostile.text for hostile in bundle]).items():
            for page in pages:
                faults += [f"{name}: an element {one}" for one in page.elements - harmless[name]]
                faults += [f"{name}: {fault}" for hostile in bundle for fault in hidden_from_readers(hostile, page)]
            for place, hostile in enumerate(bundle):
                page = pages[place] if name == "flow_run" else pages[0]
                if len(hostile.text) <= SHOWN:
                    faults += [f"{name}: {fault}" for fault in not_shown(hostile, page.text, TIMES[name])]
    assert faults == []
