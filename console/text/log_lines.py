"""How a log line is written: one record is one line, whatever its values hold, and nothing in it hides.

structlog's events end in the same handler, so that this is the one place.
"""

from __future__ import annotations

import logging
from typing import Any

from console.text.visible import make_visible, one_line


class VisibleFormatter(logging.Formatter):
    """Write a record on one line. A traceback follows on lines that begin with a bar, which no record does."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # what another handler has kept has no bars
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _barred(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _barred(super().formatStack(stack_info))


def _barred(text: str) -> str:
    return "\n".join(f"  | {line}" for line in make_visible(text).split("\n"))
