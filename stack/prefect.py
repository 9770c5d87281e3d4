"""A Prefect server on loopback with its SQLite database in the state folder.

It takes 12-18 s for its first start and about 7 s afterwards, so nothing waits for it but the flows.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from console.prefect_access import locked_out
from stack import ports
from stack.processes import Command
from stack.services import Cancelled, Say, Service, inherited_environment, never, silent

#: For every process that may import Prefect: without it a flow that lost its server silently starts a
#: throw-away one, and its runs are never seen again.
ANSWER_SECONDS = 3  # for whoever is asked whether it can be used
CLIENT_ENVIRONMENT = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


class Prefect(Service):
    """One Prefect server with its files in `<home>/prefect/`."""

    name = "prefect"
    stop_seconds = 3.0
    ready_seconds = 180.0
    poll_seconds = 0.25
    adoptable = True

    def __init__(self, home: Path, port: int | None = None) -> None:
        """`port`: a free one, remembered in `<home>/ports.json`, when not given."""
        super().__init__(home)
        self.folder = home / "prefect"
        self._ports = ports.Ports(home)
        self._fixed_port = port

    @property
    def port(self) -> int:
        """The port, chosen on first use."""
        if self._fixed_port is None:
            # A server that is still running holds the remembered port, which therefore does not look free.
            kept = self._ports.remembered("prefect") if self.leftover() else None
            self._fixed_port = kept or self._ports.assign("prefect")
        return self._fixed_port

    @property
    def api_url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}/api"

    def place(self) -> str:
        return f"on {ports.LOOPBACK}:{self.port}"

    def prepare(self, say: Say = silent, cancelled: Cancelled = never) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def command(self) -> Command:
        inherited = {name: value for name, value in inherited_environment().items() if not name.startswith("PREFECT_")}
        environment = {
            **inherited,
            **CLIENT_ENVIRONMENT,
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        }
        argv = [
            *(sys.executable, "-m", "prefect", "server", "start", "--host", ports.LOOPBACK),
            *("--port", str(self.port), "--no-ui", "--analytics-off"),
        ]
        return Command(argv, environment, self.folder, niceness=5)  # pages and refreshes wait for its answers

    def is_ready(self) -> bool:
        return answers(f"{self.api_url}/health")


def answers(url: str, timeout_seconds: float = 2.0, *, refusal_counts: bool = False) -> bool:
    """Return whether a GET of `url` answers 200; with `refusal_counts`, whether it answers at all."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return refusal_counts
    except (OSError, ValueError, HTTPException):
        return False


def refusal(api_url: str, authorization: Mapping[str, str]) -> str:
    """Return why Prefect cannot be used by whoever sends this header, "" when it can.

    Its health is told to anybody, so it is asked something that is not.
    """
    headers = {"Content-Type": "application/json", **authorization}
    question = urllib.request.Request(f"{api_url}/flows/count", data=b"{}", headers=headers, method="POST")
    try:
        with urllib.request.urlopen(question, timeout=ANSWER_SECONDS) as answer:
            json.loads(answer.read())
    except urllib.error.HTTPError as error:
        error.close()
        return locked_out(error.code, bool(authorization)) or f"It answers {error.code}."
    except (OSError, HTTPException) as error:
        return f"It does not answer: {getattr(error, 'reason', None) or error}."
    except ValueError:
        return "What answers there is not Prefect's API: its address ends with /api."
    return ""
