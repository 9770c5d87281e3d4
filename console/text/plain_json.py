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


def plain(value: Any, depth: int = 0, *, exactly: bool = False) -> Any:
    """Return the value as JSON. What JSON has no form for becomes text, sets in the order of their texts.

    `exactly`: leave texts and numbers that cannot be kept (U+0000, NaN) as they are, for whoever refuses them: written
    in another way they would be shown as one thing and run as another.
    """
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Enum):
        return plain(value.value, depth, exactly=exactly)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if exactly or math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if exactly else storable(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python", by_alias=True, warnings=False), depth, exactly=exactly)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {
            str(key) if exactly else storable(str(key)): plain(one, depth + 1, exactly=exactly)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(one, depth + 1, exactly=exactly) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(one, depth + 1, exactly=exactly) for one in value), key=str)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return storable(f"{type(value).__name__}")
