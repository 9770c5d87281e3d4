"""How the states of Prefect look: tone and icon by the state's type; the word shown is Prefect's own name of it."""

from __future__ import annotations

from typing import Final

STATE_LOOKS: Final = {
    "SCHEDULED": ("neu", "clock"),
    "PENDING": ("info", "circle-dashed"),
    "RUNNING": ("info", "loader-circle"),
    "PAUSED": ("warn", "pause"),
    "CANCELLING": ("warn", "circle-slash"),
    "COMPLETED": ("ok", "circle-check"),
    "FAILED": ("bad", "circle-x"),
    "CRASHED": ("bad", "zap"),
    "CANCELLED": ("neu", "circle-slash"),
}
