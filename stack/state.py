"""The state folder: who owns it, what the stack says of itself there, and what came from outside."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from console.environment import TEMPORAL_ELSEWHERE, without_credentials
from console.prefect_access import authorization
from stack.errors import AlreadyRunning, PartFailed
from stack.files import write_atomically


@dataclass(frozen=True)
class Outside:
    """The addresses that somebody else looks after, "" for each engine that the stack starts itself."""

    database_url: str = ""
    owner_database_url: str = ""  # "" also when one role does everything
    temporal_address: str = ""
    temporal_namespace: str = "default"
    prefect_api_url: str = ""
    prefect_authorization: dict[str, str] = field(default_factory=dict, repr=False)  # a header
    shop_url: str = ""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Outside:
        """Read the variables as the person set them; never from `stack.json`, which is our own word.

        Raises PartFailed when Temporal's profile cannot be used.
        """
        address, namespace = _temporal_elsewhere(environment)
        prefect, in_address = without_credentials(environment.get("PREFECT_API_URL", "").rstrip("/"))
        auth_string = environment.get("PREFECT_API_AUTH_STRING") or in_address
        return cls(
            database_url=environment.get("DATABASE_URL", ""),
            owner_database_url=environment.get("SIGNALBOX_OWNER_DATABASE_URL", ""),
            temporal_address=address,
            temporal_namespace=namespace or environment.get("TEMPORAL_NAMESPACE") or "default",
            prefect_api_url=prefect,
            prefect_authorization=authorization(auth_string, environment.get("PREFECT_API_KEY", "")),
            shop_url=environment.get("SIGNALBOX_SHOP_URL", "").rstrip("/"),
        )


def _temporal_elsewhere(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return address and namespace of a Temporal that is somebody else's, "" twice when none is named.

    One has to be named: that the person's own profile file exists is no wish to work on what it leads to.
    """
    if not any(environment.get(name) for name in TEMPORAL_ELSEWHERE):
        return "", ""
    from console.temporal_connection import CannotConnect, configured

    try:
        found = configured(environment)
    except CannotConnect as error:
        raise PartFailed(str(error)) from error
    return found["target_host"], found["namespace"]


@dataclass
class Addresses:
    """Where everything is; written to `<home>/stack.json`, whose keys are public."""

    database_url: str = ""  # of the app's role
    owner_database_url: str = ""  # of the role that owns the tables; for migrations only
    temporal_address: str = ""
    temporal_namespace: str = "default"
    prefect_api_url: str = ""
    web_url: str = ""
    shop_url: str = ""
    pids: dict[str, int] = field(default_factory=dict)  # part -> pid, only what runs

    def write(self, home: Path) -> None:
        """Replace `stack.json` in one step, readable by its owner only: it holds passwords."""
        content: dict[str, Any] = {
            "database_url": self.database_url,
            "owner_database_url": self.owner_database_url,
            "temporal_address": self.temporal_address,
            "temporal_namespace": self.temporal_namespace,
            "prefect_api_url": self.prefect_api_url,
            "web_url": self.web_url,
            "shop_url": self.shop_url,
            "pids": dict(self.pids),
        }
        write_atomically(home / "stack.json", json.dumps(content, indent=1) + "\n")


class FolderLock:
    """Held by the one `up` that owns a state folder; the system releases it however that process ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the folder. Raises AlreadyRunning, naming the owner."""
        file = (self._home / "up.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise AlreadyRunning(
                f"Signalbox already runs on {self._home}" + (f" (process {owner})" if owner else "") + ". "
                "Stop that one with Ctrl-C, or start a second one beside it: "
                "SIGNALBOX_HOME=/another/folder PORT=8001 make run"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the folder back."""
        if self._file is not None:
            self._file.close()
            self._file = None


class DoneOnce:
    """What needs doing once in the life of a state folder: seed the shop, start the first runs."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "done"

    def __contains__(self, name: str) -> bool:
        return (self._folder / name).exists()

    def add(self, name: str) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / name).touch()


def make_home(home: Path) -> Path:
    """Create the state folder, closed to others, and return its path without links."""
    if not home.exists():
        home.mkdir(mode=0o700, parents=True)
    with contextlib.suppress(OSError):
        # Only passing through may have been opened, for PostgreSQL under root; reading never is.
        home.chmod(home.stat().st_mode & ~0o066)
    return home.resolve()
