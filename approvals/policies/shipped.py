"""The rules that hold until an admin has activated others; the first edit starts from them."""

from __future__ import annotations

from typing import Any

LABEL = "shipped/2"  # 2: who changes a proposal does not approve the change
RULES: list[dict[str, Any]] = [
    {
        "name": "outcome questions",
        "match": {"kinds": ["outcome"]},
        "verdicts": ["approve", "reject"],
        "may_bulk": False,
    },
    {"name": "everything"},
]
CALENDARS: dict[str, Any] = {}
