"""Where what was fetched or built once is kept between checkouts: `$SIGNALBOX_CACHE`, else the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from console.environment import environment


def cache_root() -> Path:
    """Return the folder that all of it lies below; need not exist."""
    given = environment().cache
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "signalbox"
