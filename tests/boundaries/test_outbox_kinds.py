"""What is written into the outbox is what is delivered from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from console.outbox import Kind

ROOT = Path(__file__).parents[2]
PRODUCT = ("approvals", "console", "dataplane", "orchestration")


def written() -> Iterator[tuple[str, ast.expr]]:
    """Yield every kind that product code writes, with its place: each end of a conditional by itself."""
    for package in PRODUCT:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "outbox.enqueue",
                    "enqueue",
                    "outbox.enqueue_each",
                ):
                    (kind,) = (keyword.value for keyword in node.keywords if keyword.arg == "kind")
                    for one in (kind.body, kind.orelse) if isinstance(kind, ast.IfExp) else (kind,):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", one


def test_every_kind_is_written_by_its_name() -> None:
    names = [(place, ast.unparse(kind)) for place, kind in written()]
    assert [(place, name) for place, name in names if not name.startswith("Kind.")] == []
    assert {Kind[name.removeprefix("Kind.")] for _, name in names} == set(Kind)


def test_rows_of_the_outbox_are_made_by_enqueue_alone() -> None:
    made = [
        str(path.relative_to(ROOT))
        for package in PRODUCT
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts
        for made in (
            "OutboxEntry(",
            "OutboxEntry.objects.create",
            "OutboxEntry.objects.bulk_create",
            "INTO console_out",
        )
        if made in path.read_text() and f"class {made}" not in path.read_text()
    ]
    assert made == ["console/outbox.py"]
