"""Where a program's answer may be sent: to what the internet carries, and to a cloud's own secrets never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from console.environment import environment
from orchestration import webhook_gateway
from orchestration.errors import WebhookFailed

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[::ffff:169.254.169.254]",
    "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
]
INSIDE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "0.1.2.3",
    "100.64.0.1",
    "192.88.99.1",
    "198.18.0.1",
    "[::1]",
    "[fc00::1]",
    "[fec0::1]",
    "[fe80::1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[5f00::1]",
    "[2001:db8::1]",
]
NO_MACHINE = ["224.0.0.1", "255.255.255.255", "0.0.0.0", "[ff02::1]", "[::]"]


@pytest.mark.parametrize("host", METADATA + INSIDE + NO_MACHINE)
def test_no_answer_goes_inside(host: str) -> None:
    assert webhook_gateway.refusal_of(f"https://{host}/answers")


@pytest.mark.parametrize("host", [*METADATA, "224.0.0.1", "0.0.0.0", "[ff02::1]", "[::]"])
def test_nor_to_a_clouds_secrets_where_private_addresses_are_let_through(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment(), "webhooks_to_private", True)
    assert webhook_gateway.refusal_of(f"https://{host}/answers")
    assert not webhook_gateway.refusal_of("http://127.0.0.1:8080/answers")


@pytest.mark.parametrize("host", ["93.184.216.34", "[2606:2800:220:1::1]", "program.example"])
def test_public_ones_are_taken(host: str) -> None:
    assert webhook_gateway.refusal_of(f"https://{host}/answers") == ""


@pytest.mark.parametrize("found", ["169.254.169.254", "fec0::1", "10.0.0.1", "fe80::1%eth0"])
def test_a_name_is_judged_by_every_address_that_it_has(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sent() -> None:
        async def looked_up(*asked: Any, **named: Any) -> Any:
            return [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", (found, 443))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up, raising=False)
        await webhook_gateway.post("https://program.example/answers", "id", b"{}")

    with pytest.raises(WebhookFailed, match=r"program\.example: "):
        asyncio.run(sent())
