"""The one sentence that tells a proposal, as it is kept."""

from __future__ import annotations

from typing import Final

SUMMARY_LIMIT: Final = 500  # characters


def summary_of(told: str) -> str:
    """Return what was told, within the limit; one that had to be cut says so, and of how much."""
    if len(told) <= SUMMARY_LIMIT:
        return told
    mark = f"… (cut: it has {len(told):,} characters; the arguments are complete)"
    return told[: SUMMARY_LIMIT - len(mark)] + mark
