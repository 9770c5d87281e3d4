"""The only place that connects to Temporal: with what the SDK's own variables and profile file say, and in words.

Facts it relies on (temporalio 1.35):
* `temporalio.envconfig` reads TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS*,
  TEMPORAL_GRPC_META_* and the file of profiles; a variable wins over the file. An API key turns TLS on.
* Connecting asks the server what it is, which needs no key and no namespace. So the namespace is asked for as well.
* What does not work comes as a RuntimeError whose text is Rust's; the reason is in there, and so are headers.
* A file that is no TOML is quoted in the error, keys and all.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig, ClientConnectConfig
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from console.environment import environment, is_embedded

DEFAULT_ADDRESS = "127.0.0.1:7233"
_DEADLINE_SECONDS = 10.0  # for all of it


class CannotConnect(RuntimeError):
    """There is no connection to Temporal; the message is a sentence for people, and holds no secret."""


class NoSuchNamespace(CannotConnect):
    """The server is there, the namespace is not; once somebody makes it, the next try succeeds."""


def embedded(address: str, namespace: str) -> ClientConnectConfig:
    """Return how to connect to the stack's own server, which knows neither TLS nor keys."""
    return ClientConnectConfig(target_host=address, namespace=namespace, tls=False)


def configured(variables: Mapping[str, str] | None = None) -> ClientConnectConfig:
    """Return how to connect to the server that `variables` name, those of this process when not given.

    Raises CannotConnect when they, or the file they name, cannot be used.
    """
    try:
        found = ClientConfig.load_client_connect_config(
            override_env_vars=None if variables is None else dict(variables)
        )
    except (OSError, RuntimeError, ValueError) as exc:  # a file is not there, is no TOML, or has no such profile
        raise CannotConnect(f"Temporal's settings cannot be used: {_first_line(exc)}") from None
    found.setdefault("target_host", DEFAULT_ADDRESS)
    found.setdefault("namespace", "default")
    return found


def known() -> ClientConnectConfig:
    """Return how this process connects. Raises CannotConnect."""
    given = environment()
    if is_embedded("temporal"):
        return embedded(given.temporal_address, given.temporal_namespace)
    found = configured()
    # Told by `stack.json`, maybe, of which the SDK knows nothing; and in the environment the same as the SDK has read.
    if given.temporal_address:
        found["target_host"] = given.temporal_address
    if "temporal_namespace" in given.model_fields_set:
        found["namespace"] = given.temporal_namespace
    return found


async def connect(config: ClientConnectConfig | None = None, *, namespace_may_be_missing: bool = False) -> Client:
    """Return a client that the server has let in, and whose namespace is there. Raises CannotConnect, NoSuchNamespace.

    Certificates are read from their files each time, so one that was renewed counts at the next try.
    """
    found = known() if config is None else config
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
            client = await Client.connect(**found)
            if not namespace_may_be_missing:
                await ask_for_namespace(client)
    except TimeoutError:
        raise CannotConnect(f"{_at(found)} does not answer within {_DEADLINE_SECONDS:.0f} s.") from None
    except RPCError as exc:
        raise CannotConnect(_refusal(found, exc)) from None
    except (RuntimeError, ValueError, OSError) as exc:
        if isinstance(exc, CannotConnect):
            raise
        raise CannotConnect(_in_words(found, str(exc))) from None
    return client


_kept: tuple[ClientConnectConfig, Client] | None = None  # this process's connection, and what it was made with


async def kept() -> Client:
    """Return this process's one client, connected on first use. Raises CannotConnect, NoSuchNamespace.

    It may be used from any thread and event loop, and finds its server again by itself. When the settings have changed
    since, a renewed certificate among them, another one is made.
    """
    global _kept
    config = known()
    if _kept is None or _kept[0] != config:
        _kept = config, await connect(config)
    return _kept[1]


def forget(client: Client) -> None:
    """Have another client made next time: with this one something was wrong."""
    global _kept
    if _kept is not None and _kept[1] is client:
        _kept = None


async def ask_for_namespace(client: Client) -> None:
    """Return when the client's namespace is there and may be used. Raises NoSuchNamespace, RPCError."""
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=5))
    except RPCError as exc:
        if exc.status is RPCStatusCode.NOT_FOUND:
            address = client.service_client.config.target_host
            raise NoSuchNamespace(missing_namespace(client.namespace, address)) from None
        raise


def is_about_namespace(error: RPCError) -> bool:
    """Return whether a call was refused because its namespace is missing, not what it was about."""
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in error.grpc_status.details)


def missing_namespace(namespace: str, address: str) -> str:
    """Return the sentence, with the command that makes the namespace."""
    command = shlex.join(["temporal", "operator", "namespace", "create", "--namespace", namespace])
    return (
        f"Temporal at {address} has no namespace {namespace!r}. "
        f"Make it, and this goes on by itself: {command} --address {shlex.quote(address)}"
    )


def _at(config: ClientConnectConfig) -> str:
    return f"Temporal at {config['target_host']}"


def _refusal(config: ClientConnectConfig, error: RPCError) -> str:
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return _not_let_in(config, error.message)
    return _clean(config, f"{_at(config)} answers {error.status.name}: {error.message}")


def _not_let_in(config: ClientConnectConfig, reason: str) -> str:
    key = config.get("api_key")
    if not key:
        hint = "It wants an API key: set TEMPORAL_API_KEY."
    elif key != key.strip() or "\n" in key:
        hint = "TEMPORAL_API_KEY begins or ends with a space or holds a line break: such a key is not sent."
    else:
        hint = f"TEMPORAL_API_KEY is wrong, has expired, or may not use the namespace {config['namespace']!r}."
    return _clean(config, f"{_at(config)} refuses: {reason.rstrip('.')}. {hint}")


#: what Rust's text holds -> what that means, and what to do; the first that is found counts
_MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"InvalidCertificate\((UnknownIssuer|BadSignature)",
        "The server's certificate is not signed by an authority that is known here: "
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH names the file with its authority's certificate.",
    ),
    (
        r"InvalidCertificate\(NotValidForName",
        "The server's certificate is for another name: set TEMPORAL_TLS_SERVER_NAME to one that it is for.",
    ),
    (r"InvalidCertificate\(Expired", "The server's certificate has expired."),
    (r"InvalidCertificate\(NotValidYet", "The server's certificate is not valid yet; one of the two clocks is wrong."),
    (r"InvalidCertificate", "The server's certificate is not accepted."),
    (
        r"fatal alert: (CertificateRequired|HandshakeFailure)",
        "The server wants a client's certificate: TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH.",
    ),
    (r"fatal alert: CertificateExpired", "The client's certificate has expired (TEMPORAL_TLS_CLIENT_CERT_PATH)."),
    (
        r"fatal alert: ",
        "The server does not accept the client's certificate (TEMPORAL_TLS_CLIENT_CERT_PATH).",
    ),
    (r"KeyMismatch", "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH do not belong together."),
    (
        r"client cert and private key or neither",
        "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_KEY_PATH are needed together.",
    ),
    (
        r"corrupt message|InvalidContentType|InvalidMessage",
        "The server does not speak TLS there: set TEMPORAL_TLS=false.",
    ),
)
#: a connection that the server cuts off without a word
_CUT_OFF = re.compile(
    r"connection closed|broken pipe|Connection reset|ConnectionReset|UnexpectedEof|IncompleteMessage", re.I
)


def _in_words(config: ClientConnectConfig, text: str) -> str:
    """Return the sentence for what the SDK says when it cannot connect, with its reason."""
    refused = re.search(r'code: (?:PermissionDenied|Unauthenticated), message: "((?:[^"\\]|\\.)*)"', text)
    if refused:
        return _not_let_in(config, refused[1])
    hint = next((words for pattern, words in _MEANINGS if re.search(pattern, text)), "")
    if not hint and _CUT_OFF.search(text):
        hint = _why_cut_off(config)
    return _clean(config, f"{_at(config)} cannot be reached: {_own_words(text)}. {hint}".strip())


def _why_cut_off(config: ClientConnectConfig) -> str:
    tls = config.get("tls")
    if not tls:
        return "The server may want TLS: set TEMPORAL_TLS=true, or what your Temporal needs of TEMPORAL_TLS_*."
    if not isinstance(tls, TLSConfig) or not tls.client_cert:
        return (
            "The server may want a client's certificate: set TEMPORAL_TLS_CLIENT_CERT_PATH and "
            "TEMPORAL_TLS_CLIENT_KEY_PATH."
        )
    # Whether the server's reason for closing arrives before the connection is gone is luck.
    return "The server may not accept the client's certificate, or it has expired (TEMPORAL_TLS_CLIENT_CERT_PATH)."


def _own_words(text: str) -> str:
    """Return the innermost reason of Rust's nested errors, without the headers that came with it."""
    certificate = re.search(r"InvalidCertificate\(.*?\)(?= \}|\)*$)", text)
    if certificate:
        return str(certificate[0])
    quoted: list[str] = re.findall(r'(?:error|message): "((?:[^"\\]|\\.)*)"', text)
    telling = [words for words in quoted if words not in ("transport error", "operation was canceled")]
    named = re.search(r'hyper::Error\(\w+, "([^"]*)"\)', text)
    if telling:
        return telling[-1].rstrip(".")
    if named:
        return str(named[1])
    return text.removeprefix("Failed client connect: ").partition(", metadata:")[0][:300].rstrip(".")


def _clean(config: ClientConnectConfig, words: str) -> str:
    """Return the words in one line, without the API key or a header's value should they be in there."""
    secrets = [config.get("api_key") or "", *(config.get("rpc_metadata") or {}).values()]
    for secret in secrets:
        if len(secret) >= 4:
            words = words.replace(secret, "***")
    return " ".join(words.split())


def _first_line(exc: BaseException) -> str:
    """Return what is wrong, and never the line of the file in which it is: that may be the one with the key."""
    if isinstance(exc, OSError) and exc.filename is not None:
        return f"{exc.filename}: {exc.strerror}."
    return (str(exc).splitlines() or [type(exc).__name__])[0][:300].rstrip(".") + "."
