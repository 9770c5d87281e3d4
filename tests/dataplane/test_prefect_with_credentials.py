"""A Prefect that wants to know who asks: console, events, runner and flow runs say it; refusals are words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from console.environment import PROJECT, Environment, environment, without_credentials
from console.models import PartHeartbeat
from console.prefect_access import authorization, prefect_token
from dataplane.errors import PrefectLocked
from dataplane.flow_service import runner_environment
from dataplane.models import DatasetVersion, Refresh
from dataplane.prefect_gateway import HttpPrefectGateway
from dataplane.refreshes import dispatch
from dataplane.refreshes.request import request_refresh
from stack import prefect
from stack.prefect import refusal
from stack.state import Outside
from tests.secured_engines import SecuredPrefect
from tests.waiting import PATIENCE

from .conftest import handbook
from .test_flows_for_real import wait_until

NAMES = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredPrefect]:
    with SecuredPrefect(tmp_path_factory.mktemp("prefect with a password")) as server:
        assert isinstance(server, SecuredPrefect)
        yield server


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a shell that knows no Prefect yet; what the test sets is read at once."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    environment.cache_clear()


def sent_by(gateway_answers: int = 200) -> list[httpx.Request]:
    """Return what the console sends when it asks something."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(gateway_answers, json=[])

    HttpPrefectGateway("http://prefect.example/api", transport=httpx.MockTransport(handle)).flow_runs()
    return seen


def test_the_console_shows_the_auth_string_or_the_key(told: pytest.MonkeyPatch) -> None:
    assert "authorization" not in sent_by()[0].headers
    told.setenv("PREFECT_API_KEY", "pnu_123")
    environment.cache_clear()
    assert sent_by()[0].headers["authorization"] == "Bearer pnu_123"
    told.setenv("PREFECT_API_AUTH_STRING", "user:pass")
    environment.cache_clear()
    assert sent_by()[0].headers["authorization"] == "Basic dXNlcjpwYXNz"  # as Prefect's own client prefers it
    assert "pass" not in repr(environment()) and "pnu_123" not in repr(environment())


def test_runner_and_flow_runs_get_them_and_no_other_secret(told: pytest.MonkeyPatch) -> None:
    told.setenv("PREFECT_API_AUTH_STRING", "user:pass")
    told.setenv("PREFECT_API_KEY", "pnu_123")
    environment.cache_clear()
    flows = runner_environment({"TEMPORAL_API_KEY": "sk-1", "TEMPORAL_TLS_CLIENT_KEY_DATA": "PEM", "PATH": "/bin"})
    assert (flows["PREFECT_API_AUTH_STRING"], flows["PREFECT_API_KEY"]) == ("user:pass", "pnu_123")
    assert not [name for name in flows if name.startswith("TEMPORAL_")]


def test_user_and_password_inside_the_address_are_the_auth_string_and_shown_nowhere(told: pytest.MonkeyPatch) -> None:
    told.setenv("PREFECT_API_URL", "http://user:p%40ss@prefect.example:4200/api")
    environment.cache_clear()
    assert environment().prefect_api_url == "http://prefect.example:4200/api"
    assert prefect_token() == ("user:p@ss", "")
    outside = Outside.read({"PREFECT_API_URL": "http://user:p%40ss@prefect.example:4200/api/"})
    assert outside.prefect_api_url == "http://prefect.example:4200/api"
    assert outside.prefect_authorization == authorization("user:p@ss", "")
    assert without_credentials("http://prefect.example/api") == ("http://prefect.example/api", "")
    assert Environment.model_fields["prefect_auth_string"].repr is False


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_an_address_may_end_in_a_slash(told: pytest.MonkeyPatch, end: str) -> None:
    told.setenv("PREFECT_API_URL", f"http://user:pass@prefect.example:4200/api{end}")
    environment.cache_clear()
    assert environment().prefect_api_url == "http://prefect.example:4200/api"
    assert runner_environment({})["PREFECT_API_URL"] == "http://prefect.example:4200/api"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_is_said_in_words_and_what_was_asked_is_kept(
    told: pytest.MonkeyPatch, transactional_db: None, status: int
) -> None:
    with pytest.raises(PrefectLocked, match="it wants PREFECT_API_AUTH_STRING"):
        sent_by(status)
    told.setenv("PREFECT_API_AUTH_STRING", "user:wrong-one")
    environment.cache_clear()
    gateway = HttpPrefectGateway(
        "http://prefect.example/api", transport=httpx.MockTransport(lambda request: httpx.Response(status))
    )
    refresh, _ = request_refresh(dataset="handbook", key="k", user=None)
    dispatch.dispatch_all(gateway)
    row = Refresh.objects.get(pk=refresh.pk)
    assert row.status == Refresh.Status.SCHEDULED
    assert "does not accept what PREFECT_API_AUTH_STRING" in row.send_error and "wrong-one" not in row.send_error


@pytest.mark.engines
def test_the_start_says_why_a_prefect_cannot_be_used(secured: SecuredPrefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect, "ANSWER_SECONDS", PATIENCE)
    assert refusal(secured.api_url, authorization(secured.auth_string, "")) == ""
    assert "401: it wants PREFECT_API_AUTH_STRING" in refusal(secured.api_url, {})
    wrong = refusal(secured.api_url, authorization("signalbox:wrong-one", ""))
    assert "401: it does not accept" in wrong and "wrong-one" not in wrong
    assert "Connection refused" in refusal("http://127.0.0.1:9/api", {})
    assert "404" in refusal(secured.api_url.removesuffix("/api"), authorization(secured.auth_string, ""))


@pytest.mark.engines
def test_flows_work_on_a_prefect_with_a_password(
    secured: SecuredPrefect, told: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    handbook(tmp_path / "handbook", returns="Thirty days, unused.")
    told.setenv("SIGNALBOX_HANDBOOK", str(tmp_path / "handbook"))
    told.setenv("DATABASE_URL", database_url)
    told.setenv("PREFECT_API_URL", secured.api_url)
    told.setenv("PREFECT_API_AUTH_STRING", secured.auth_string)
    environment.cache_clear()
    with (tmp_path / "flows.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "manage.py", "serve_flows"], cwd=PROJECT, stdout=log, stderr=log)
    try:
        wait_until(DatasetVersion.objects.exists)
        # The words come when the events do, past their own check of who listens.
        wait_until(lambda: PartHeartbeat.objects.filter(part="flows", detail="serving flows").exists())
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
    assert secured.auth_string not in (tmp_path / "flows.log").read_text()
