"""The contracts, the boundary map and the failure tests, put together from the code of every app."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from console.contracts import Contracts
from console.drill_results import failure_tests


def contracts_page() -> dict[str, Any]:
    """Return `{"boundaries": [...], "steps": [...], "failure_tests": [...]}`, from the code and the last drills."""
    parts: list[Contracts] = [import_string(path) for path in settings.CONTRACTS]
    return {
        "boundaries": [asdict(boundary) for part in parts for boundary in part.boundaries],
        "steps": [asdict(step) for part in parts for step in part.steps],
        "failure_tests": failure_tests(),
    }
