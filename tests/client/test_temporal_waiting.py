"""The mixin's waiting in plain Python, without a server; what it does on one is in test_temporal.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from signalbox_client.temporal import AskedFor, WaitsForApproval
from temporalio import workflow


class _TimeoutOfPython310(Exception):
    """There `asyncio.TimeoutError` is no TimeoutError."""


def test_nobodys_answer_in_time_is_none_on_every_python_that_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*args: Any, **more: Any) -> AskedFor:
        return AskedFor("apr_1", "")

    async def nobody(*args: Any, **more: Any) -> None:
        raise _TimeoutOfPython310

    monkeypatch.setattr(asyncio, "TimeoutError", _TimeoutOfPython310)
    monkeypatch.setattr(workflow, "execute_activity", asked)
    monkeypatch.setattr(workflow, "wait_condition", nobody)
    waiting = WaitsForApproval().approval("Delete it", tool="delete_index", arguments={"name": "a"}, wait=5)
    assert asyncio.run(waiting) is None
