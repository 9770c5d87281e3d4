"""The failures, two trials of every fault, on one stack of real engines and processes.

Two, for many a fault has two ways and takes them in turn. `make nightly` plays twenty.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from console.drill_results import FAILURE_TESTS
from docs import measuring

PROJECT = Path(__file__).resolve().parent.parent.parent
TRIALS = 2
pytestmark = pytest.mark.drill


@pytest.fixture(scope="session")
def drilled() -> dict[str, Any]:
    """Run the command once; return what it wrote, with its status and output."""
    with tempfile.TemporaryDirectory(prefix="drill-result-") as folder:
        result = Path(folder) / "result.json"
        done = subprocess.run(
            [sys.executable, "manage.py", "drill", "--trials", str(TRIALS), "--json", str(result)],
            cwd=PROJECT,
            env={**os.environ, "SIGNALBOX_HOME": folder, "DATABASE_URL": ""},
            capture_output=True,
            text=True,
            timeout=3600,
        )
        end = done.stdout[-20_000:] + done.stderr[-5_000:]
        assert result.exists(), end
        return {**json.loads(result.read_text()), "status": done.returncode, "output": end}


@pytest.mark.parametrize("failure", [test.name for test in FAILURE_TESTS])
def test_nothing_is_lost_or_done_twice_under(failure: str, drilled: dict[str, Any]) -> None:
    faults = drilled["failures"][failure]
    assert faults
    assert [fault for fault in faults if fault["trials"] < TRIALS] == []
    assert [fault for fault in faults if fault["violations"]] == []


@pytest.mark.parametrize("failure", [test.name for test in FAILURE_TESTS])
def test_the_documents_report_every_fault_in_the_drills_own_words(failure: str, drilled: dict[str, Any]) -> None:
    def words(faults: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [(fault["fault"], fault["invariant"]) for fault in faults]

    assert words(measuring.read("drill", failure)["faults"]) == words(drilled["failures"][failure])


def test_the_checker_sees_violations_that_were_planted(drilled: dict[str, Any]) -> None:
    (planted,) = drilled["failures"]["checker"]
    assert planted["trials"] >= 4
    assert planted["seen"] == []


def test_the_command_prints_the_table_and_tells_success_by_its_status(drilled: dict[str, Any]) -> None:
    assert drilled["status"] == 0, drilled["output"]
    assert "invariant" in drilled["output"] and "violations" in drilled["output"]
    assert "only printed" in drilled["output"]  # no database beside it
