"""No two public classes of the product have one name: a name alone says which thing is meant."""

from __future__ import annotations

import ast
from collections import defaultdict

from console.environment import PROJECT

PRODUCT = ("approvals", "console", "dataplane", "orchestration", "signalbox", "stack")

#: one thing twice: as a row of a table, and as the authors of agents see it
AGREED = {
    "Effect": ["orchestration.models", "signalbox.testing"],
    "Passage": ["dataplane.models", "orchestration.agents.runtime"],
}


def _homes() -> dict[str, list[str]]:
    """Return the modules of each public class, by its name. Commands and migrations are named by Django."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in sorted(path for folder in PRODUCT for path in (PROJECT / folder).rglob("*.py")):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        if "migrations" in parts or "commands" in parts:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(".".join(parts))
    return homes


def test_no_two_public_classes_have_one_name() -> None:
    homes = _homes()
    assert len(homes) > 500
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == AGREED
