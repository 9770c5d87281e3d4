"""What each side of the data plane must not load, asked of a fresh interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from console.environment import PROJECT, environment
from dataplane.flow_service import runner_environment

LOADED = "import json, sys; {}; print(json.dumps([name for name in sys.modules if '.' not in name]))"


def loaded_by(statement: str) -> set[str]:
    command = [sys.executable, "-W", "ignore", "-c", LOADED.format(statement)]
    done = subprocess.run(command, cwd=PROJECT, env=dict(os.environ), capture_output=True, check=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_flows_load_no_console_framework_and_no_other_engine() -> None:
    loaded = loaded_by("import dataplane.flows.serving")
    assert "prefect" in loaded
    assert not loaded & {"django", "temporalio", "langgraph", "langchain", "orchestration", "approvals"}


@pytest.mark.parametrize("module", ["dataplane.api", "dataplane.views", "dataplane.health", "dataplane.flow_service"])
def test_the_console_side_never_loads_prefect(module: str) -> None:
    loaded = loaded_by(f"import django; django.setup(); import {module}")
    assert not loaded & {"prefect", "temporalio", "langgraph", "orchestration.worker"}


def test_flow_runs_are_told_of_no_other_engine_and_start_no_server_of_their_own() -> None:
    told = runner_environment({"PATH": "/bin", "TEMPORAL_ADDRESS": "x:1", "OPENAI_API_KEY": "secret"})
    assert not [name for name in told if name.startswith(("TEMPORAL", "OPENAI"))]
    assert told["PREFECT_SERVER_EPHEMERAL_ENABLED"] == "false"
    assert told["PATH"] == "/bin"


@pytest.mark.parametrize(
    ("setting", "is_passed_on"),
    [
        ("", False),
        ("model2vec:/a/folder", False),
        ("openai:text-embedding-3-small", True),
        ("model2vec:/a, cohere:x", True),
    ],
)
def test_a_models_key_reaches_flow_runs_only_where_a_hosted_one_makes_vectors(
    setting: str, is_passed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "embedder", setting)
    assert ("OPENAI_API_KEY" in runner_environment({"OPENAI_API_KEY": "secret"})) == is_passed_on
