"""The only door to webhooks: one POST to an address that a program has named, signed as Standard Webhooks say.

Three headers (standardwebhooks.com, specification 1.0): `webhook-id`, the same each time an answer is sent;
`webhook-timestamp`, unix seconds; `webhook-signature`, "v1," and the base64 of HMAC-SHA256 over "id.timestamp.body",
once for each secret that is valid, with a space between.

The address is a stranger's, so it could point at something inside. What prevents that: http and https only; a name is
looked up once, every address it has must be a public one, and the connection goes to the address that was checked;
no redirect is followed, no proxy is used, and no byte of the answer's body is read. SIGNALBOX_WEBHOOKS_TO_PRIVATE
lets private addresses through, for programs on the same machine or network, but never those under which a cloud tells
a machine its own secrets.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from console.environment import environment
from orchestration.errors import WebhookFailed

SECONDS = 10.0  # for one delivery, the look-up included
SECRET_PREFIX = "whsec_"
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _networks(*names: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(name) for name in names)


#: Where clouds answer a machine with its credentials; nobody's program takes an answer there.
_METADATA = _networks(
    "169.254.0.0/16",  # AWS, Azure, Google, Oracle and others: 169.254.169.254, of containers 169.254.170.2 and .23
    "fe80::a9fe:a9fe/128",  # OpenStack
    "fd00:ec2::/32",  # AWS
    "fd20:ce::254/128",  # Google
    "100.100.100.200/32",  # Alibaba
    "168.63.129.16/32",  # Azure; a public address in form
    "192.0.0.192/32",  # Oracle
)
#: What Python calls global and the internet does not carry, or what stands for an address that nobody here can see.
_NOT_PUBLIC = _networks(
    "0.0.0.0/8",
    "100.64.0.0/10",  # carriers' own
    "192.88.99.0/24",  # 6to4's relays
    "::/96",  # IPv4 written as IPv6
    "64:ff9b:1::/48",  # NAT64 inside one network
    "2001::/23",  # Teredo and other protocols'
    "2002::/16",  # 6to4
    "5f00::/16",  # segment routing
    "fec0::/10",  # site-local
)


@dataclass(frozen=True)
class _Target:
    """An address taken apart once, so that what is checked is what is called."""

    scheme: str
    host: str
    port: int
    path: str  # with the query
    authority: str  # the Host header


def refusal_of(url: str) -> str:
    """Say why the address cannot be used, "" when its form is right; nothing is looked up."""
    try:
        target = _taken_apart(url)
        address = ipaddress.ip_address(target.host)
    except WebhookFailed as exc:
        return str(exc)
    except ValueError:
        return ""
    return _refusal_of_address(address)


def refusal_of_server(url: str) -> str:
    """Say why an address that the installation's owner has set cannot be used, "" when it can; nothing is looked up.

    Private addresses are the owner's to name; those where a cloud tells its secrets are nobody's.
    """
    try:
        target = _taken_apart(url)
        address = ipaddress.ip_address(target.host)
    except WebhookFailed as exc:
        return str(exc)
    except ValueError:
        return ""
    if any(one in network for one in _inside(address) for network in _METADATA):
        return f"{address} is where a cloud tells a machine its own secrets."
    return ""


def signed(message_id: str, at: int, body: bytes, keys: Sequence[bytes] = ()) -> dict[str, str]:
    """Return the headers that sign a body sent at a moment (unix seconds), once with each key.

    `keys`: none is the installation's. A receiver takes the body when one of the signatures fits its secret.
    """
    content = f"{message_id}.{at}.".encode() + body
    signatures = [hmac.new(key, content, hashlib.sha256).digest() for key in keys or (shared_key(),)]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(signature).decode()}" for signature in signatures),
    }


def secret(key: bytes | None = None) -> str:
    """Return a key, the installation's where none is given, as receivers' libraries take it: "whsec_" and base64."""
    return SECRET_PREFIX + base64.b64encode(shared_key() if key is None else key).decode()


def shared_key() -> bytes:
    """Return the installation's: the bytes of the setting, or else what follows from Django's key."""
    given = environment().webhook_secret
    if given.startswith(SECRET_PREFIX):
        return base64.b64decode(given.removeprefix(SECRET_PREFIX) + "==")  # padding that is not needed is passed over
    if given:  # any text, as it was before the standard
        return given.encode()
    return hmac.new(settings.SECRET_KEY.encode(), b"signalbox webhooks", hashlib.sha256).digest()


async def post(url: str, message_id: str, body: bytes, keys: Sequence[bytes] = ()) -> str:
    """Send one signed body and return in words who took it. Raises WebhookFailed with the reason; repeat later.

    `message_id`: the receiver's key against repetitions, so the same for each attempt. `keys`: as in `signed`.
    """
    target = _taken_apart(url)
    try:
        async with asyncio.timeout(SECONDS):
            status = await _post(target, await _looked_up(target), message_id, body, keys)
    except TimeoutError as exc:
        raise WebhookFailed(f"{target.host} did not answer within {SECONDS:.0f} seconds.") from exc
    if not 200 <= status < 300:
        more = " Redirects are not followed." if 300 <= status < 400 else ""
        raise WebhookFailed(f"{target.host} answered with status {status}.{more}")
    return f"{target.host} answered with status {status}"


async def _post(target: _Target, address: Address, message_id: str, body: bytes, keys: Sequence[bytes]) -> int:
    import httpx  # not before it is needed: the web process only looks at addresses

    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "User-Agent": "Signalbox",
        **signed(message_id, int(time.time()), body, keys),
    }
    host = f"[{address}]" if address.version == 6 else str(address)
    url = httpx.URL(f"{target.scheme}://{host}:{target.port}").copy_with(raw_path=target.path.encode())
    try:
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SECONDS) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions={"sni_hostname": target.host}
            ) as answer,
        ):
            return answer.status_code
    except httpx.HTTPError as exc:
        raise WebhookFailed(f"{target.host} could not be reached: {type(exc).__name__}.") from exc


async def _looked_up(target: _Target) -> Address:
    """Return one address of the host, after a look at all of them."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise WebhookFailed(f"{target.host} has no address.") from exc
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if refusal := _refusal_of_address(address):
            raise WebhookFailed(f"{target.host}: {refusal}")
    return addresses[0]


def _refusal_of_address(address: Address) -> str:
    every = _inside(address)
    if any(one in network for one in every for network in _METADATA):
        return f"{address} is where a cloud tells a machine its own secrets. No answer is sent there."
    if any(one.is_multicast or one.is_unspecified for one in every):
        return f"{address} is no address of one machine."
    if environment().webhooks_to_private or all(_is_public(one) for one in every):
        return ""
    return (
        f"{address} is not a public address. Private ones are called only where SIGNALBOX_WEBHOOKS_TO_PRIVATE is set."
    )


def _inside(address: Address) -> list[Address]:
    """Return the address and those that it carries inside, for an IPv6 address can stand for an IPv4 one."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    carried: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if int(address) >> 32 == 0 and int(address) > 1:  # ::192.0.2.1, the oldest form
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address in _NAT64:
        carried.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    return [address, *(one for one in carried if one is not None)]


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not any(address in network for network in _NOT_PUBLIC)
    )


def _taken_apart(url: str) -> _Target:
    """Take the address apart. Raises WebhookFailed with the reason in a sentence."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise WebhookFailed("This is no web address.") from exc
    if parts.scheme not in _PORTS:
        raise WebhookFailed("An address begins with https:// or http://.")
    if "@" in parts.netloc or "\\" in url or parts.fragment:
        raise WebhookFailed("An address holds no user, password, backslash or fragment.")
    if port == 0 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise WebhookFailed("The address names no host that can be called.")
    return _Target(parts.scheme, host, port or _PORTS[parts.scheme], _path(parts), parts.netloc)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return "%" not in host


def _path(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
