from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.environment import Environment

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("name", [str(field.alias) for field in Environment.model_fields.values()])
def test_the_readme_explains_every_variable(name: str) -> None:
    assert f"`{name}`" in (PROJECT / "README.md").read_text()


def test_the_readme_names_only_files_that_exist() -> None:
    readme = (PROJECT / "README.md").read_text()
    named = ("console/environment.py", "orchestration/contracts.py", "approvals/services/deciding.py")
    for path in (*named, "bench/decision.py"):
        assert (PROJECT / path).exists()
        assert path.rpartition("/")[2].removesuffix(".py") in readme


def test_every_test_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (PROJECT / "README.md").read_text()))
    assert named
    assert named - {path.name for path in (PROJECT / "tests").rglob("test_*.py")} == set()
