"""Identifiers that sort by time and say what they name."""

from __future__ import annotations

from ulid import ULID


def new_id(prefix: str) -> str:
    """Return a new id such as `apr_01jd9q7...`: text order is the order of creation."""
    return f"{prefix}_{str(ULID()).lower()}"
