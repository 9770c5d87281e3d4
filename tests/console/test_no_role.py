"""An account without a role: no page leads it in a circle."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.mark.parametrize("path", ["/", "/inbox/", "/record/", "/system/", "/policy/", "/runs/start/"])
def test_what_the_refusal_offers_can_be_used(path: str, eve: User) -> None:
    eve.password = "one that nothing matches"
    eve.save()
    client = Client()
    client.force_login(eve, backend="django.contrib.auth.backends.ModelBackend")
    refused = client.get(path, follow=True)
    page = refused.content.decode()
    assert refused.status_code == 403
    assert "has no role yet" in page and "role admin" in page
    offered = re.findall(r'<a class="btn"[^>]* href="([^"]+)"', page)
    assert {"/accounts/logout/", "/accounts/password/"} <= set(offered)
    assert [client.get(address).status_code for address in offered] == [200] * len(offered)
    assert 'href="/"' not in client.get("/accounts/logout/").content.decode().split("<section")[1]


def test_who_may_see_the_inbox_is_led_there(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    assert "Go to the inbox" in client.get("/record/").content.decode()
