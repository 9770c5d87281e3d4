"""The worker keeps what the authors of its agents hide, also when the database is away at its start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from django.db import InterfaceError, OperationalError

from orchestration import worker
from orchestration.agents.registry import agents
from orchestration.state import kept_marks
from orchestration.state.secrets import marks_of

Marks = Mapping[str, tuple[str, ...]]


@pytest.mark.django_db(transaction=True)
def test_a_worker_keeps_the_marks_of_all_that_it_has_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_marks, "_read", None)
    keep, failures = kept_marks.keep, [OperationalError("away"), InterfaceError("closed")]

    def keep_or_fail(marks: Marks) -> None:
        if failures:
            raise failures.pop()
        keep(marks)

    monkeypatch.setattr(kept_marks, "keep", keep_or_fail)
    polling = worker.Polling()
    asyncio.run(worker._keep_marks(asyncio.Event(), polling))
    assert not failures and polling.state() == (False, "waiting for the database: OperationalError")
    assert kept_marks.kept() == {name: tuple(sorted(set(marks_of(agent)))) for name, agent in agents().items()}


def test_a_worker_that_is_told_to_stop_waits_for_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(marks: Marks) -> None:
        raise AssertionError("asked after it was told to stop")

    monkeypatch.setattr(kept_marks, "keep", keep)
    stop = asyncio.Event()
    stop.set()
    asyncio.run(worker._keep_marks(stop, worker.Polling()))
