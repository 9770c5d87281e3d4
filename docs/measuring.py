"""Where measurements are kept: one JSON file each in `docs/measured/`, with the commit and the load that they had.

    {"taken": how, in one sentence, "faults": [{"fault", "invariant", "trials", "violations"}]}      of a drill
    {"taken": how, "columns": [...], "rows": [[...]], "notes": [...]}                                 of a bench

Nobody edits them: `manage.py drill NAME --record` and `python -m bench.NAME --record` write them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from console.environment import PROJECT

MEASURED: Final = PROJECT / "docs" / "measured"


def read(kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_file(kind, name).read_text())
    return found


def is_measured(kind: str, name: str) -> bool:
    return _file(kind, name).exists()


def record(kind: str, name: str, command: str, **measured: Any) -> None:
    """Keep what was measured just now, in place of what was measured before."""
    taken = f"`{command}` at commit {_commit()}, {os.cpu_count()} cores, load {_load()} at the end."
    text = json.dumps({"taken": taken, **measured}, indent=1, ensure_ascii=False)
    _file(kind, name).write_text(text + "\n")


def _file(kind: str, name: str) -> Path:
    return MEASURED / f"{kind}-{name}.json"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    changed = " and changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return git("rev-parse", "--short", "HEAD").strip() + changed


def _load() -> str:
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())
