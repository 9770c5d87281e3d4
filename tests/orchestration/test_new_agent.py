"""The agent that `new_agent` writes works, and so does the test that it writes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from orchestration.agents.registry import agents, faults
from tests.orchestration.test_agent_faults import Register, register

__all__ = ("register",)
ROOT = Path(__file__).parents[2]


def write(folder: Path, name: str) -> str:
    out = io.StringIO()
    call_command("new_agent", name, "--in", str(folder), stdout=out)
    return out.getvalue()


def test_its_own_test_passes_alone_and_it_can_be_registered_as_the_command_says(
    tmp_path: Path, register: Register
) -> None:
    told = write(tmp_path, "acme_notes")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    alone = ["-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider", "-p", "no:django", "-p", "no:asyncio"]
    command = [sys.executable, "-m", "pytest", "-q", *alone, "acme_notes"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
    register("acme_notes=acme_notes.agent:graph")
    assert "SIGNALBOX_AGENTS=acme_notes=acme_notes.agent:graph" in told
    assert faults() == []
    schema = agents()["acme_notes"].input_schema
    assert schema is not None and sorted(schema["properties"]) == ["text", "to"]
    err = io.StringIO()
    call_command("check_agents", stdout=io.StringIO(), stderr=err)
    assert err.getvalue() == ""


def test_nothing_is_written_over_and_a_bad_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "acme_notes")
    with pytest.raises(CommandError, match="is there already"):
        write(tmp_path, "acme_notes")
    with pytest.raises(CommandError, match="no name of a package"):
        write(tmp_path, "Acme-Notes")
