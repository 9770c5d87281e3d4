"""What `up` does once for an engine, such as building the Temporal server, so that the page can say how far it is.

One file for each engine in `<SIGNALBOX_HOME>/set-up/`, with a sentence; written again at each sign of life, and taken
away at the end. One that has grown old is of an `up` that was killed, and counts for nothing.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

_OLD_AFTER_SECONDS = 60.0


def say(home: Path, engine: str, words: str) -> None:
    """Note how far it is. A disk that takes nothing keeps nobody from building."""
    with contextlib.suppress(OSError):
        path = _path(home, engine)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(words)


def done(home: Path, engine: str) -> None:
    with contextlib.suppress(OSError):
        _path(home, engine).unlink()


def words(home: Path, engine: str) -> str:
    """Return how far it is, "" where nothing is being set up."""
    try:
        path = _path(home, engine)
        return path.read_text() if time.time() - path.stat().st_mtime < _OLD_AFTER_SECONDS else ""
    except (OSError, ValueError):
        return ""


def _path(home: Path, engine: str) -> Path:
    return home / "set-up" / engine
