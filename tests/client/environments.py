"""Virtual environments of programs' own, with the client's wheel in them, kept in the cache between runs."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from console.environment import PROJECT
from stack.cache import cache_root

CLIENT = PROJECT / "signalbox_client"
RECIPES = CLIENT / "recipes"
_UV = PROJECT / ".uv" / "bin" / "uv"


@functools.cache
def python_with(*requirements: str) -> Path:
    """Return the Python of an environment that has the client's wheel and these packages, and nothing else of ours."""
    sources = sorted(path for path in (CLIENT / "src").rglob("*.py"))
    told = [*requirements, sys.version, *(path.read_text() for path in [CLIENT / "pyproject.toml", *sources])]
    name = hashlib.sha256("\0".join(told).encode()).hexdigest()[:20]
    home = cache_root() / "programs"
    home.mkdir(parents=True, exist_ok=True)
    place = home / name
    with (home / f"{name}.lock").open("w") as lock:  # several test processes may want the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            _uv("venv", "--clear", "--python", sys.executable, str(place))
            wheel = build(place / "wheel")
            _uv("pip", "install", "--python", str(place / "bin" / "python"), str(wheel), *requirements)
            (place / "ready").touch()
    return place / "bin" / "python"


def build(to: Path) -> Path:
    """Return the client's wheel, built into a folder."""
    _uv("build", "--wheel", "--out-dir", str(to), str(CLIENT))
    (wheel,) = to.glob("*.whl")
    return wheel


def variables(**more: str) -> Mapping[str, str]:
    """Return the environment of a program that is none of ours."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **more}


def _uv(*words: str) -> None:
    done = subprocess.run([_UV, *words], cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
