"""What each process may load, seen from a fresh interpreter; and what must not be in the code at all."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parent.parent.parent
OUR_CODE = [
    path
    for folder in ("console", "stack", "approvals", "orchestration", "dataplane", "examples")
    for path in (PROJECT / folder).rglob("*.py")
]


_AS_DJANGO = "import os, django\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'console.settings')\ndjango.setup()"


def _loaded_after(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after the statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_web_process_starts_without_any_engine() -> None:
    loaded = _loaded_after("import console.asgi\nfrom django.urls import resolve\nresolve('/inbox/')")
    assert "django" in loaded
    assert not loaded & {"prefect", "langgraph", "langchain_core", "temporalio"}


ONLY_TO_COMPUTE = {"sklearn", "skops", "scipy", "pandas", "duckdb"}


@pytest.mark.parametrize(
    "process",
    [
        "import console.asgi\nfrom django.urls import resolve\nresolve('/inbox/'), resolve('/data/')",
        "import orchestration.relay.loop, orchestration.port, dataplane.port",
        "import orchestration.worker, dataplane.selectors\nfrom dataplane.embedding import embedder\nembedder()",
        "import dataplane.flow_service",
    ],
    ids=["web", "relay", "worker", "the flows' own parent"],
)
def test_what_only_flows_compute_with_is_loaded_nowhere_else(process: str) -> None:
    loaded = _loaded_after(f"{_AS_DJANGO}\n{process}")
    assert "django" in loaded and not loaded & ONLY_TO_COMPUTE


def test_the_process_that_serves_flows_loads_scikit_learn_only_to_train() -> None:
    loaded = _loaded_after("import dataplane.flows.serving, dataplane.flows.outlooks")
    assert "prefect" in loaded and not loaded & (ONLY_TO_COMPUTE - {"duckdb"})


def test_workflow_modules_load_without_django_database_or_agent() -> None:
    loaded = _loaded_after("import orchestration.workflows.agent_run")
    assert "temporalio" in loaded
    assert not loaded & {"django", "psycopg", "langgraph", "approvals", "dataplane"}


def test_graphs_load_without_django_and_temporal() -> None:
    loaded = _loaded_after("import orchestration.agents.support.graph")
    assert "langgraph" in loaded
    assert not loaded & {"django", "temporalio", "prefect"}


def test_agents_are_described_without_langgraph() -> None:
    loaded = _loaded_after("from orchestration.agents.registry import agents\nassert agents()")
    assert "langgraph" not in loaded


def test_no_code_uses_the_agents_that_langchain_left_behind() -> None:
    names = {
        (path.name, node.id if isinstance(node, ast.Name) else node.name)
        for path in OUR_CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.alias)
    }
    assert not {name for name in names if name[1] in {"AgentExecutor", "initialize_agent"}}


def test_langgraph_is_the_version_whose_internals_we_rely_on() -> None:
    assert version("langgraph") == "1.2.22"
    assert tuple(int(part) for part in version("langgraph-prebuilt").split(".")) >= (1, 1, 0)


def test_the_lock_and_the_bounds_agree_about_langgraph() -> None:
    project = (PROJECT / "pyproject.toml").read_text()
    assert '"langgraph==1.2.22"' in project
    assert '"langgraph-prebuilt>=1.1.0"' in project


def test_interrupt_stands_alone_in_its_node() -> None:
    """A node runs again from its first line on resume: whatever stood before `interrupt()` would run twice."""
    nodes = [
        (path, function, calls)
        for path in OUR_CODE
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and (calls := _interrupts_in(function))
    ]
    assert nodes
    assert [
        f"{path.relative_to(PROJECT)}: {function.name} does more than interrupt"
        for path, function, calls in nodes
        if calls != 1 or len([statement for statement in function.body if not _is_docstring(statement)]) != 1
    ] == []


def _interrupts_in(function: ast.AST) -> int:
    """Return how many calls of `interrupt` the function has."""
    return sum(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "interrupt"
        for node in ast.walk(function)
    )


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
