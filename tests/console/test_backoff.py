"""One way to wait longer after each failure, and no second one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from console.backoff import Backoff

ROOT = Path(__file__).parents[2]


def test_pauses_double_up_to_the_longest() -> None:
    assert [Backoff(1, 60).pause(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert Backoff(0.5, 2).delay(2).total_seconds() == 1.0


@pytest.mark.parametrize("failures", [-1, 0, 1])
def test_no_failure_counts_as_the_first(failures: int) -> None:
    assert Backoff(3, 60).pause(failures) == 3


def test_a_failure_that_lasts_for_years_costs_nothing_more() -> None:
    assert Backoff(1, 3600).pause(10**9) == 3600


def _grows(node: ast.AST) -> bool:
    """Return whether the expression doubles something, or raises two to something that is not a fixed number."""
    if not isinstance(node, ast.BinOp):
        return False
    if isinstance(node.op, ast.LShift | ast.Pow):
        return not isinstance(node.right, ast.Constant)
    is_two = any(isinstance(side, ast.Constant) and side.value == 2 for side in (node.left, node.right))
    return isinstance(node.op, ast.Mult) and is_two


def _is_bounded_growth(node: ast.Call) -> bool:
    """Return whether this is `min(...)` of something that grows: how a backoff looks when it is made by hand."""
    if not (isinstance(node.func, ast.Name) and node.func.id == "min"):
        return False
    return any(_grows(inner) for argument in node.args for inner in ast.walk(argument))


def test_no_other_backoff_is_made_by_hand() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in ("approvals", "console", "dataplane", "orchestration", "stack")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != ROOT / "console/backoff.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _is_bounded_growth(node)
    ]
    assert found == []
