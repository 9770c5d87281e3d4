"""Whatever a graph holds, as JSON: the same bytes for the same value, in any process."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from console.text.stored import storable

DEEPEST = 100  # lists and objects inside each other


def plain(value: Any, depth: int = 0) -> Any:
    """Return the value as JSON. What JSON has no form for becomes text, sets in the order of their texts."""
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Enum):
        return plain(value.value, depth)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python", by_alias=True, warnings=False), depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name, None), depth + 1) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {storable(str(key)): plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(one, depth + 1) for one in value), key=str)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return storable(f"{type(value).__name__}")
