"""Places where a drill may strike. They do nothing unless SIGNALBOX_FAULTS is set, which only a drill does.

A drill writes `<SIGNALBOX_HOME>/faults/<point>` holding `kill` or `freeze`; the first process that reaches the
point takes the file away, leaves `<point>.fired` with its pid, and is killed or stopped there.
No Django here: flows and agents use it too.
"""

from __future__ import annotations

import os
import signal

from console.environment import environment

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


def reach(point: str) -> None:
    """Note that the code has come to this point; never returns when a drill has armed it with `kill`."""
    if not environment().faults:
        return
    armed = environment().home / "faults" / point
    try:
        action = armed.read_text().strip()
        armed.rename(armed.with_suffix(".fired"))  # exactly one process gets to fire
    except FileNotFoundError:
        return
    armed.with_suffix(".fired").write_text(f"{action} {os.getpid()}")
    os.kill(os.getpid(), _SIGNALS[action])
