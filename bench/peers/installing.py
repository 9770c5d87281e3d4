"""Install a peer by its own usual client, below the cache, once for each of its versions.

None of them is a dependency of Signalbox: nothing of it imports one, and whoever uses it would have to trust and renew
their thousands of packages. So each has a place of its own, where somebody measures.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from console.environment import PROJECT
from stack.cache import cache_root
from stack.files import last_lines
from stack.processes import Command, Process
from stack.services import inherited_environment

#: Every version that is compared with, here and nowhere else.
DBOS: Final = "3.4.0"
N8N: Final = "2.41.1"
AIRFLOW: Final = "3.3.2"
NODE: Final = "24.21.0"  # n8n wants 24, which most machines do not have
WITH_DBOS: Final = (f"dbos=={DBOS}", "psycopg[binary]==3.3.9")
WITH_AIRFLOW: Final = (
    *(f"apache-airflow=={AIRFLOW}", "apache-airflow-providers-standard==1.21.0"),
    *("psycopg2-binary==2.9.13", "asyncpg==0.32.0"),
)
NOTHING_NEWER_THAN: Final = "2026-11-20"  # of what they need themselves

INSTALL_SECONDS: Final = 3600.0  # n8n has 2,300 packages, which take 4 minutes on a quiet machine
_UV: Final = PROJECT / ".uv" / "bin" / "uv"


class PeerFailed(Exception):
    """A peer could not be installed or started, or did not go on. The message is its own last line."""


@dataclass(frozen=True)
class Installer:
    """Installs into the cache; `home` is where the logs of it go."""

    home: Path

    def python(self, name: str, requirements: Sequence[str]) -> Path:
        """Return the folder of a virtual environment with these packages. Raises PeerFailed."""
        place = _place(name, [*requirements, NOTHING_NEWER_THAN, sys.version])
        if not _is_ready(place):
            steps = [
                [str(_UV), "venv", "--python", sys.executable, str(place)],
                [
                    *(str(_UV), "pip", "install", "--python", str(place / "bin" / "python")),
                    *("--exclude-newer", NOTHING_NEWER_THAN, *requirements),
                ],
            ]
            self._install(name, place, steps)
        return place

    def npm(self, name: str, package: str, *options: str, path: str = "") -> Path:
        """Return the folder whose `node_modules` has the package. Raises PeerFailed. `path`: where to find node."""
        place = _place(name, [package, *options])
        if not _is_ready(place):
            # no log of its own, whose place it would tell in its last line
            always = ("--no-audit", "--no-fund", "--no-update-notifier", "--logs-max=0")
            step = ["npm", "install", "--prefix", str(place), *always, *options, package]
            self._install(name, place, [step], {"PATH": path} if path else {})
        return place

    def _install(self, name: str, place: Path, steps: list[list[str]], more: Mapping[str, str] | None = None) -> None:
        shutil.rmtree(place, ignore_errors=True)  # what was cut off
        place.mkdir(parents=True)
        for argv in steps:
            command = Command(argv, {**inherited_environment(), **(more or {})}, self.home, niceness=10)
            run_to_its_end(self.home, f"install-{name}", command, INSTALL_SECONDS)
        (place / "ready").touch()


def run_to_its_end(home: Path, name: str, command: Command, seconds: float) -> None:
    """Run a program and whatever it starts. Raises PeerFailed when it fails or is not done in time; nothing is left."""
    try:
        process = Process.launch(name, home, command)
    except OSError as error:
        raise PeerFailed(telling(str(error))) from error
    try:
        ended = process.wait(seconds)
    finally:
        process.send(signal.SIGKILL)  # with its children; it does nothing to one that has ended
        code = process.reap()
    if not ended:
        raise PeerFailed(f"{name} was not done after {seconds:.0f} s")
    if code:
        raise PeerFailed(last_word_of(home, name))


def last_word_of(home: Path, name: str) -> str:
    """Return the last line of a program's log, fit for a page."""
    return telling(last_lines(home / "logs" / f"{name}.log")) or f"{name} ended without a word"


def telling(text: str) -> str:
    """Return the last line that names an error, else the last one, without addresses and places of one machine."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if re.search(r"\w", line)]
    errors = [line for line in lines if re.search(r"\w(Error|Exception): |^(error|fatal)\b", line)]
    last = (errors or lines or [""])[-1]
    return re.sub(r"\w+://\S+|(?<!\w)~?/[\w.@+-]+(?:/[\w.@+-]+)+", "…", last)[:200]


def _place(name: str, told: Sequence[str]) -> Path:
    digest = hashlib.sha256("\0".join(told).encode()).hexdigest()[:12]
    return cache_root() / "peers" / f"{name}-{digest}"


def _is_ready(place: Path) -> bool:
    return (place / "ready").exists()
