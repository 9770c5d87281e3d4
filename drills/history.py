"""The drill's own record of what it asked for and what it heard back, kept as JSON lines for whoever must judge."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

Kind = Literal["invoked", "ok", "refused", "unknown", "struck", "seen"]


class History:
    """Append-only. `unknown`: the answer was lost, so the operation may have happened."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._began = time.monotonic()
        self._operations = 0

    def operation(self, who: str, what: str) -> int:
        """Note that an operation is sent; return its number, under which its end is noted."""
        self._operations += 1
        self.note("invoked", who, what, operation=self._operations)
        return self._operations

    def note(self, kind: Kind, who: str, what: str, **facts: Any) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        line = {"at": seconds, "kind": kind, "who": who, "what": what, **facts}
        self._file.write(json.dumps(line, default=str) + "\n")

    def close(self) -> None:
        self._file.close()
