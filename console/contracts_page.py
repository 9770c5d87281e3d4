"""The contracts, the boundary map and the failure tests, put together from the code of every app."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from console import ports
from console.drill_results import failure_tests


def contracts_page() -> dict[str, Any]:
    """Return `{"boundaries": [...], "steps": [...], "failure_tests": [...]}`, from the code and the last drills."""
    parts = [app.contracts() for app in ports.contracts().values()]
    return {
        "boundaries": [asdict(boundary) for part in parts for boundary in part.boundaries],
        "steps": [asdict(step) for part in parts for step in part.steps],
        "failure_tests": failure_tests(),
    }
