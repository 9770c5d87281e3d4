"""What a process that stays does once, when what it needs is loaded."""

from __future__ import annotations

import gc


def keep_what_is_loaded() -> None:
    """Leave what is loaded out of every later garbage collection, and collect less often.

    A full one walks all that lives and holds up every thread meanwhile: 160 ms for the 250,000 objects that the worker
    has loaded. Called once in a process, after its imports; never in tests, whose garbage is to be found.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
