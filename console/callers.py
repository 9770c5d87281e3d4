"""From where a request comes. A header says what its sender likes, so only named proxies are believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: what proxies add, as Django names it
_FORWARDED: Final = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_REAL_IP",
    "HTTP_FORWARDED",
)


def networks(text: str) -> tuple[Network, ...]:
    """Return the proxies that a setting names, comma-separated addresses or networks. Raises ValueError with words."""
    found = []
    for name in filter(None, (one.strip() for one in text.split(","))):
        try:
            found.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            raise ValueError(
                f"SIGNALBOX_TRUSTED_PROXIES: {name!r} is no address and no network. Write 10.0.0.5 or 10.0.0.0/8."
            ) from None
    return tuple(found)


def believe_proxies(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Middleware, the first: put the client's address where Django looks, and drop what nobody trusted has said."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        meta = request.META
        if _is_proxy(meta.get("REMOTE_ADDR", "")):
            meta["REMOTE_ADDR"] = _client(meta["REMOTE_ADDR"], meta.get("HTTP_X_FORWARDED_FOR", ""))
        else:
            for name in _FORWARDED:
                meta.pop(name, None)
        return get_response(request)

    return middleware


def address_of(request: HttpRequest) -> str:
    """Return the client's address, "unknown" behind a Unix socket. An IPv4 address inside an IPv6 one is itself."""
    address = _read(request.META.get("REMOTE_ADDR", ""))
    return str(address) if address else "unknown"


def place_of(request: HttpRequest) -> str:
    """Return what is counted as one place: the IPv4 address, or the /64 that one IPv6 customer has to itself."""
    address = _read(request.META.get("REMOTE_ADDR", ""))
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address) if address else "unknown"


def _client(peer: str, forwarded: str) -> str:
    """Return the last address that no trusted proxy has; what stands before it is hearsay."""
    client = peer
    for said in reversed([one.strip() for one in forwarded.split(",") if one.strip()]):
        if _read(said) is None:
            break
        client = said
        if not _is_proxy(said):
            break
    return client


def _is_proxy(text: str) -> bool:
    address = _read(text)
    return address is not None and any(address in network for network in settings.TRUSTED_PROXIES)


def _read(text: str) -> Address | None:
    """Return the address; some proxies add a port, `1.2.3.4:567` or `[2001:db8::1]:567`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
