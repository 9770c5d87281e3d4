"""The arguments of a proposal leaf by leaf, as pages list them and conditions name them."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_SIMPLE_KEY: Final = re.compile(r"[^\W\d][\w-]*")


def leaves_of(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return each leaf with its path and its exact JSON text, in their order; empty lists and objects are leaves."""
    if isinstance(value, dict) and value:
        return [leaf for key in value for leaf in leaves_of(value[key], path + step_of(key, path))]
    if isinstance(value, list) and value:
        return [leaf for index, item in enumerate(value) for leaf in leaves_of(item, f"{path}[{index}]")]
    return [(path, json.dumps(value, ensure_ascii=False))]


def step_of(key: str, path: str) -> str:
    """Return one step of a path. A key with a dot, a bracket or a blank is quoted, so that no path means two things."""
    if not _SIMPLE_KEY.fullmatch(key):
        return f"[{json.dumps(key, ensure_ascii=False)}]"
    return f".{key}" if path else key
