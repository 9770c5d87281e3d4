"""How tools reach the services of this installation."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from console.environment import environment
from orchestration import world
from tests.orchestration.conftest import go


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 2), (60.0, 1)])
def test_an_idle_connection_is_given_up_before_its_server_does(
    seconds: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            callers.add(self.client_address)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    async def inside() -> None:
        outside = world.OutsideWorld()
        for _ in range(2):
            (await outside.http("shop").get("/")).raise_for_status()
        await outside.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(environment(), "shop_url", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(world, "KEEPS_IDLE_SECONDS", seconds)
        go(inside())
    finally:
        server.shutdown()
        server.server_close()
    assert len(callers) == expected


def test_ours_is_given_up_before_any_common_server_closes_its_own() -> None:
    gunicorn_keeps_it_for = 2
    assert gunicorn_keeps_it_for > world.KEEPS_IDLE_SECONDS
