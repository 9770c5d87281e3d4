"""The documents tell what is there: each table as its source has it, each name, link and file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.drill_results import FAILURE_TESTS
from console.environment import PROJECT, Environment
from docs import measuring, tables
from docs.measuring import read

README = PROJECT / "README.md"
DOCUMENTS = [README, PROJECT / "CONTRIBUTING.md", *tables.pages()]
FIRST_SCREENS = 60  # lines of the README


@pytest.mark.parametrize("page", tables.documents(), ids=lambda page: page.name)
def test_every_table_is_as_its_source_has_it(page: Path) -> None:
    assert page.read_text() == tables.with_tables(page.read_text()), "run `manage.py write_docs`"


def test_every_table_stands_on_a_page_and_has_lines() -> None:
    text = "".join(page.read_text() for page in tables.documents())
    for name, table in tables.TABLES.items():
        assert f"<!-- {name} -->\n{next(table())}\n" in text, name


def test_every_variable_is_explained() -> None:
    for field in Environment.model_fields.values():
        assert field.description, field.alias
        assert f"| `{field.alias}` |" in "\n".join(tables.settings())


def test_a_bench_that_was_measured_has_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MEASURED", tmp_path)
    assert "Not measured yet" in "\n".join(tables.TABLES["live"]())
    measuring.record(
        "bench", "live", "python -m bench.live", columns=["ms", "p50"], rows=[["a", "1"]], notes=["0 lost"]
    )
    text = "\n".join(tables.TABLES["live"]())
    assert "| a | 1 |" in text and "0 lost" in text and "`python -m bench.live` at commit" in text


def test_the_readme_says_how_ours_compares_and_names_who_could_not_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MEASURED", tmp_path)
    assert "Not measured yet" in "\n".join(tables.ratios())
    rows = [
        ["Signalbox", "60.0", "70.0", "1.00"],
        ["A 1", "30.0", "40.0", "0.50"],
        ["B 2: not measured, *no*", *3 * [""]],
    ]
    measuring.record(
        "bench", "peers", "python -m bench.peers", columns=["", "p50", "p95", "times"], rows=rows, notes=[]
    )
    (line,) = tables.ratios()
    assert "Signalbox 60.0 ms; A 1 30.0 ms (0.50 times ours); B 2: not measured, *no*." in line


def test_every_failure_was_measured() -> None:
    for test in FAILURE_TESTS:
        assert read("drill", test.name)["faults"], test.name


def test_the_first_screens_lead_to_every_page() -> None:
    begin = "\n".join(README.read_text().split("\n")[:FIRST_SCREENS])
    for page in tables.pages():
        assert f"(docs/{page.name})" in begin


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    tests = {path.name for path in (PROJECT / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_\w+\.py)`", page.read_text()):
        assert name in tests
    for path in re.findall(
        r"`((?:console|approvals|orchestration|dataplane|drills|bench|stack|tests)/[\w/]+\.py)`", page.read_text()
    ):
        assert (PROJECT / path).exists(), path
