"""A deploy in place: a worker keeps the workflow code that it has, and says that the disk holds another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker
from ulid import ULID

from orchestration.pinned_code import PinnedCode
from orchestration.worker import Polling, workflow_runner
from stack.temporal import Temporal
from tests.orchestration.conftest import go

SOURCE = """
from temporalio import workflow

@workflow.defn(name="Deployed")
class Deployed:
    @workflow.run
    async def run(self) -> str:
        return "{says}"
"""


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file of a workflow in a package of its own that says "old"."""
    home = tmp_path / f"deployed_{str(ULID()).lower()}"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "flow.py").write_text(SOURCE.format(says="old"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # else a pyc of the same second hides the change
    yield home / "flow.py"
    for name in [name for name in sys.modules if name.partition(".")[0] == home.name]:
        del sys.modules[name]


def test_a_worker_keeps_the_workflow_code_that_it_started_with(temporal: Temporal, deployed: Path) -> None:
    package = deployed.parent.name
    code = PinnedCode(package, besides=())
    queue = f"deployed {ULID()}"

    def deploy() -> None:
        deployed.write_text(SOURCE.format(says="new"))

    async def play() -> list[Any]:
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        flow = import_module(f"{package}.flow").Deployed
        async with Worker(client, task_queue=queue, workflows=[flow], workflow_runner=workflow_runner()):
            first = await client.execute_workflow("Deployed", id=f"deployed-{ULID()}", task_queue=queue)
            deploy()
            second = await client.execute_workflow("Deployed", id=f"deployed-{ULID()}", task_queue=queue)
        return [first, second]

    with code.in_force():
        assert go(play()) == ["old", "old"]
    assert not code.is_on_disk()


def test_a_worker_says_that_its_code_is_of_before(deployed: Path) -> None:
    code = PinnedCode(deployed.parent.name, besides=())
    polling = Polling(code)
    polling._fault = ""
    assert polling.state()[0] and "before a deploy" not in polling.state()[1]
    assert code.fingerprint in polling.state()[1] and "turns at once" in polling.state()[1]
    deployed.write_text(SOURCE.format(says="new"))
    assert polling.state()[0] and "before a deploy" in polling.state()[1]
    deployed.write_text(SOURCE.format(says="old"))
    assert "before a deploy" not in polling.state()[1]
    (deployed.parent / "another.py").write_text("")
    assert "before a deploy" in polling.state()[1]


def test_our_own_workflows_are_pinned() -> None:
    code = PinnedCode()
    names = set(code._codes)
    assert names >= {"orchestration.workflows.agent_run", "orchestration.workflows.watch", "orchestration.workflows"}
    assert code.is_on_disk()
