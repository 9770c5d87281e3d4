"""Connecting to a Temporal that is somebody else's: with the SDK's own variables, and each refusal in words."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from console import environment as environment_module
from console.environment import PROJECT, environment, is_embedded
from console.temporal_connection import (
    CannotConnect,
    NoSuchNamespace,
    configured,
    connect,
    is_about_namespace,
    known,
)
from stack.ports import free_port
from stack.supervisor import Supervisor
from tests.secured_engines import Authority, Pair, SecuredTemporal, Signer

Variables = dict[str, str]


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredTemporal]:
    with SecuredTemporal(tmp_path_factory.mktemp("temporal with certificates")) as server:
        assert isinstance(server, SecuredTemporal)
        yield server


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredTemporal]:
    home = tmp_path_factory.mktemp("temporal with keys")
    with SecuredTemporal(home, signer=Signer(home)) as server:
        assert isinstance(server, SecuredTemporal)
        yield server


def connected(variables: Variables) -> Client:
    return asyncio.run(connect(configured(variables)))


def why_not(variables: Variables) -> str:
    with pytest.raises(CannotConnect) as told:
        connected(variables)
    sentence = str(told.value)
    assert "\n" not in sentence and "metadata" not in sentence.lower() and len(sentence) < 600
    return sentence


@pytest.mark.engines
def test_with_a_certificate_one_is_let_in(mutual: SecuredTemporal) -> None:
    assert connected(mutual.variables).namespace == "default"


@pytest.mark.engines
def test_the_same_by_a_profile_of_a_file(mutual: SecuredTemporal, tmp_path: Path) -> None:
    known = mutual.variables
    file = tmp_path / "temporal.toml"
    file.write_text(
        f"""[profile.company]
address = "{known["TEMPORAL_ADDRESS"]}"
namespace = "default"
[profile.company.tls]
server_name = "{known["TEMPORAL_TLS_SERVER_NAME"]}"
server_ca_cert_path = "{known["TEMPORAL_TLS_SERVER_CA_CERT_PATH"]}"
client_cert_path = "{known["TEMPORAL_TLS_CLIENT_CERT_PATH"]}"
client_key_path = "{known["TEMPORAL_TLS_CLIENT_KEY_PATH"]}"
"""
    )
    assert connected({"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "company"}).namespace == "default"


@pytest.mark.engines
def test_each_wrong_certificate_is_said_in_words(mutual: SecuredTemporal, tmp_path: Path) -> None:
    right = mutual.variables
    authority = Authority(tmp_path, "another authority")
    stranger, late = authority.issue("stranger"), mutual.authority.issue("late", lasts=-timedelta(days=1))

    def client(pair: Pair) -> Variables:
        return {
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(pair.certificate),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(pair.key),
        }

    address = right["TEMPORAL_ADDRESS"]
    cases: list[tuple[Variables, tuple[str, ...]]] = [
        ({"TEMPORAL_ADDRESS": address}, ("TEMPORAL_TLS=true",)),
        ({"TEMPORAL_ADDRESS": address, "TEMPORAL_TLS": "true"}, ("UnknownIssuer", "TEMPORAL_TLS_SERVER_CA_CERT_PATH")),
        (right | {"TEMPORAL_TLS_SERVER_NAME": "other.inside"}, ("temporal.inside", "TEMPORAL_TLS_SERVER_NAME")),
        ({name: right[name] for name in right if "CLIENT" not in name}, ("TEMPORAL_TLS_CLIENT_CERT_PATH",)),
        (
            right | {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(authority.certificate)},
            ("UnknownIssuer", "TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
        ),
        (right | client(stranger), ("accept the client's certificate",)),
        (right | client(late), ("client's certificate", "has expired")),
        (right | {"TEMPORAL_TLS_CLIENT_KEY_PATH": str(stranger.key)}, ("KeyMismatch", "do not belong together")),
        ({name: right[name] for name in right if "CLIENT_KEY" not in name}, ("needed together",)),
        (right | {"TEMPORAL_TLS_CLIENT_KEY_PATH": "/nowhere/client.key"}, ("/nowhere/client.key", "No such file")),
    ]
    for variables, wanted in cases:
        sentence = why_not(variables)
        for words in wanted:
            assert words in sentence, (variables, sentence)


@pytest.mark.engines
def test_with_an_api_key_one_is_let_in_and_every_wrong_one_is_said_in_words(keyed: SecuredTemporal) -> None:
    assert keyed.signer is not None
    right = keyed.variables | {"TEMPORAL_API_KEY": keyed.signer.api_key("default:write")}
    assert connected(right).namespace == "default"
    assert "set TEMPORAL_API_KEY" in why_not(keyed.variables)
    for key in (
        "sk-of-somebody-else",
        keyed.signer.api_key("default:write", lasts=-timedelta(hours=1)),
        keyed.signer.api_key("other:write"),
    ):
        sentence = why_not(right | {"TEMPORAL_API_KEY": key})
        assert "Request unauthorized" in sentence and "TEMPORAL_API_KEY is wrong, has expired" in sentence
        assert key not in sentence
    assert "line break" in why_not(right | {"TEMPORAL_API_KEY": right["TEMPORAL_API_KEY"] + "\nx"})


@pytest.mark.engines
def test_a_missing_namespace_is_a_sentence_with_the_command_and_heals(mutual: SecuredTemporal) -> None:
    variables = mutual.variables | {"TEMPORAL_NAMESPACE": "acme"}
    with pytest.raises(NoSuchNamespace) as told:
        connected(variables)
    assert "temporal operator namespace create --namespace acme --address" in str(told.value)

    async def make_it() -> None:
        client = await connect(mutual.admin)
        request = RegisterNamespaceRequest(namespace="acme")
        request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
        await client.workflow_service.register_namespace(request)

    asyncio.run(make_it())
    while True:  # a new namespace is not known to the whole server at once
        try:
            assert connected(variables).namespace == "acme"
            break
        except NoSuchNamespace:
            pass


def test_nobody_there_is_said_with_the_reason() -> None:
    sentence = why_not({"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"})
    assert "cannot be reached: Connection refused" in sentence


def test_a_file_that_is_no_toml_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.default]\naddress = "t.example:7233"\napi_key = "sk-very-secret\n')
    sentence = why_not({"TEMPORAL_CONFIG_FILE": str(file)})
    assert "line 3" in sentence and "secret" not in sentence
    assert "'nope'" in why_not({"TEMPORAL_CONFIG_FILE": "/dev/null", "TEMPORAL_PROFILE": "nope"})


def test_an_error_about_a_workflow_is_not_about_the_namespace() -> None:
    assert not is_about_namespace(RPCError("workflow not found", RPCStatusCode.NOT_FOUND, b""))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder whose stack runs a Temporal of its own, in the shell of somebody who has another one."""
    (tmp_path / "stack.json").write_text(
        json.dumps({"temporal_address": "127.0.0.1:1", "temporal_namespace": "ours", "pids": {"temporal": 1}})
    )
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.default]\naddress = "cloud.example:7233"\napi_key = "sk-secret"\nnamespace = "theirs"\n')
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    for name in environment_module.TEMPORAL_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    environment.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    environment.cache_clear()


def test_the_embedded_server_gets_nobodys_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "sk-secret")
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    assert is_embedded("temporal")
    assert known() == {"target_host": "127.0.0.1:1", "namespace": "ours", "tls": False}
    told = Supervisor(home=home, parts=["temporal"]).environment()
    assert not [name for name in told if name.startswith("TEMPORAL_") and name != "TEMPORAL_NAMESPACE"]


def test_a_named_profile_wins_over_the_embedded_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(home / "temporal.toml"))
    assert not is_embedded("temporal")
    found = known()
    assert (found["target_host"], found["namespace"], found["api_key"]) == ("cloud.example:7233", "theirs", "sk-secret")
    stack = Supervisor(home=home, parts=["temporal", "flows"])
    assert stack._outside.temporal_address == "cloud.example:7233"
    assert not [name for name in stack._flows_environment() if name.startswith("TEMPORAL_")]


def test_one_function_makes_every_connection() -> None:
    folders = ("console", "approvals", "orchestration", "dataplane", "drills", "bench", "examples")
    found = {
        path.relative_to(PROJECT).as_posix()
        for folder in folders
        for path in (PROJECT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Client.connect")
    }
    assert found == {"console/temporal_connection.py"}
