"""The web process: `uvicorn console.asgi:application`. Pages and API over HTTP, one socket per open page."""

from __future__ import annotations

import logging
import os

import django
from django.conf import settings

from console.asgi_types import Application, Receive, Scope, Send
from console.statics import make as make_statics

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
django.setup()  # before anything that imports models
make_statics()  # before whitenoise reads the folder

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.http.request import split_domain_port, validate_host  # noqa: E402
from django.urls import get_resolver, path, re_path  # noqa: E402
from django.utils.http import is_same_domain  # noqa: E402

from console.admission import Admission  # noqa: E402
from console.database import AWAY  # noqa: E402
from console.kept_heap import keep_what_is_loaded  # noqa: E402
from console.kept_threads import KeptThreads  # noqa: E402
from console.live.consumers import LiveConsumer  # noqa: E402
from console.live.held import Held  # noqa: E402
from console.live.listener import listener  # noqa: E402
from console.live.shared import Shared  # noqa: E402

logger = logging.getLogger(__name__)


def our_own_origin(inner: Application) -> Application:
    """Let a socket in only from a page of this very address, scheme included, or of a trusted one.

    Cookies travel with a socket that any website opens, so a missing or foreign Origin is refused.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin, host = headers.get(b"origin", ""), headers.get(b"host", "")
        if is_trusted_origin(origin, host, scope.get("scheme", "ws")):
            await inner(scope, receive, send)
        else:
            logger.warning("a socket from origin %r to host %r was refused", origin[:100], host[:100])
            await _refuse(scope, receive, send)

    return guarded


def is_trusted_origin(origin: str, host: str, scheme: str) -> bool:
    """Return whether a page of `origin` may open a socket to `host`; `scheme`: ws or wss."""
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    if origin == f"{'https' if scheme in ('wss', 'https') else 'http'}://{host}":
        return True
    for trusted in settings.CSRF_TRUSTED_ORIGINS:
        trusted_scheme, _, pattern = trusted.partition("://")
        origin_scheme, _, origin_host = origin.partition("://")
        if origin_scheme == trusted_scheme and is_same_domain(origin_host, pattern.lstrip("*")):
            return True
    return False


def patient(inner: Application) -> Application:
    """Refuse a socket quietly while Postgres is away: the page knocks again by itself."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner(scope, receive, send)
        except AWAY as exc:
            logger.warning("a socket could not be opened: %s", type(exc).__name__)
            await _refuse(scope, receive, send)

    return guarded


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close", "code": 4404})  # before accepting: the browser sees HTTP 403


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start listening with the process, and load it whole; without lifespan the first socket and request do it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            listener()
            _ = get_resolver().url_patterns  # imports every view, which the first request would wait for
            keep_what_is_loaded()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await listener().stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


_sockets = URLRouter([path("live/", LiveConsumer.as_asgi()), re_path(r"", _refuse)])  # type: ignore[arg-type]

application = ProtocolTypeRouter(
    {
        "http": Held(Shared(Admission(KeptThreads()))),
        "websocket": our_own_origin(patient(AuthMiddlewareStack(_sockets))),
        "lifespan": lifespan,
    }
)
