"""What every answer carries, whatever it is, and what holds where people come over https alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client

from console import callers
from console.settings import BASE_DIR

KINDS = {
    "page": ("/inbox/", 200, {}),
    "fragment": ("/frame/pending/", 200, {"HX-Request": "true"}),
    "refused fragment": ("/record/", 403, {"HX-Request": "true"}),
    "api": ("/api/v1/approvals", 200, {}),
    "api's errors": ("/api/v1/audit", 403, {}),
    "api's docs": ("/api/v1/docs", 200, {}),
    "static": ("/static/css/app.css", 200, {}),
    "no such page": ("/nowhere/", 404, {}),
    "no such static file": ("/static/nowhere.css", 404, {}),
    "redirect": ("/", 302, {}),
    "admin's door": ("/admin/", 302, {}),
    "account page": ("/accounts/password/", 200, {}),
    "unreadable host": ("/inbox/", 400, {"Host": "evil.example"}),
    "broken": ("/system/", 500, {}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hsts_seconds", [0, 31_536_000])
def test_every_kind_of_answer_is_hardened(
    kind: str, hsts_seconds: int, alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HSTS_SECONDS = hsts_seconds
    path, status, headers = KINDS[kind]
    if kind == "broken":
        monkeypatch.setattr("console.views.health.report", None)
    client = Client(raise_request_exception=False)
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    answer = client.get(path, headers=headers)
    answer.close()  # a static file
    assert answer.status_code == status
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "'unsafe" not in answer["Content-Security-Policy"]
    assert (answer["X-Frame-Options"], answer["X-Content-Type-Options"]) == ("DENY", "nosniff")
    assert (answer["Referrer-Policy"], answer["Cross-Origin-Opener-Policy"]) == ("same-origin", "same-origin")
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer["Permissions-Policy"] and "microphone=()" in answer["Permissions-Policy"]
    assert answer.get("Strict-Transport-Security") == (f"max-age={hsts_seconds}" if hsts_seconds else None)
    assert "Server" not in answer


def settings_with(**environment: str) -> dict[str, Any]:
    """Return the security settings of a process with this environment."""
    cookies = ["SESSION_COOKIE_SECURE", "SESSION_COOKIE_NAME", "SESSION_COOKIE_PATH", "SESSION_COOKIE_DOMAIN"]
    others = ["CSRF_COOKIE_SECURE", "CSRF_COOKIE_NAME", "DEVICE_COOKIE_NAME"]
    names = [*cookies, *others, "HSTS_SECONDS", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS"]
    code = (
        "import django, json; django.setup(); from django.conf import settings as s; "
        f"print(json.dumps({{name: getattr(s, name) for name in {names}}}))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_URL")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**kept, "DJANGO_SETTINGS_MODULE": "console.settings", **environment},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_https_address_makes_the_safe_choice_by_itself() -> None:
    found = settings_with(SIGNALBOX_URL="https://signalbox.example/")
    assert found["SESSION_COOKIE_SECURE"] and found["CSRF_COOKIE_SECURE"]
    assert found["SESSION_COOKIE_NAME"] == "__Host-sessionid" and found["CSRF_COOKIE_NAME"] == "__Host-csrftoken"
    assert found["DEVICE_COOKIE_NAME"].startswith("__Host-")
    assert (found["SESSION_COOKIE_PATH"], found["SESSION_COOKIE_DOMAIN"]) == ("/", None)  # what `__Host-` asks for
    assert found["HSTS_SECONDS"] == 31_536_000
    assert "signalbox.example" in found["ALLOWED_HOSTS"]
    assert "https://signalbox.example" in found["CSRF_TRUSTED_ORIGINS"]


def test_plain_http_on_this_machine_goes_on_working_and_each_choice_can_be_made() -> None:
    found = settings_with()
    assert not found["SESSION_COOKIE_SECURE"] and found["SESSION_COOKIE_NAME"] == "sessionid"
    assert found["HSTS_SECONDS"] == 0
    assert settings_with(SIGNALBOX_SECURE="true", SIGNALBOX_HSTS_SECONDS="60")["HSTS_SECONDS"] == 60
    assert not settings_with(SIGNALBOX_URL="https://x.example", SIGNALBOX_SECURE="false")["SESSION_COOKIE_SECURE"]


def seen(settings: Any, peer: str, **headers: str) -> HttpRequest:
    """Return the request as the pages see it."""
    request = HttpRequest()
    request.META = {
        "REMOTE_ADDR": peer,
        **{f"HTTP_X_FORWARDED_{name.upper()}": value for name, value in headers.items()},
    }
    settings.TRUSTED_PROXIES = callers.networks("10.0.0.0/8, 2001:db8:9::/48")
    callers.believe_proxies(lambda request: None)(request)  # type: ignore[arg-type, return-value]
    return request


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # nobody trusted: what it says is dropped
        ("127.0.0.1", "203.0.113.9", "127.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # what the client itself has sent stands before
        ("10.0.0.1", "6.6.6.6, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("2001:db8:9::1", "[2001:db8:7::5]:80", "2001:db8:7::5"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("", "203.0.113.9", "unknown"),
    ],
)
def test_a_forwarded_address_is_believed_from_named_proxies_alone(
    settings: Any, peer: str, forwarded: str, address: str
) -> None:
    assert callers.address_of(seen(settings, peer, **{"for": forwarded})) == address


@pytest.mark.parametrize(("peer", "secure"), [("10.0.0.1", True), ("192.0.2.1", False), ("127.0.0.1", False)])
def test_so_is_a_forwarded_scheme(settings: Any, peer: str, secure: bool) -> None:
    assert seen(settings, peer, proto="https").is_secure() == secure


def test_a_proxy_that_is_no_address_stops_the_start_in_words() -> None:
    with pytest.raises(ValueError, match="SIGNALBOX_TRUSTED_PROXIES: 'nginx' is no address"):
        callers.networks("10.0.0.1, nginx")


def test_the_web_process_itself_believes_no_header() -> None:
    from stack.console_parts import Web

    assert "--no-proxy-headers" in Web(BASE_DIR, dict, 8000).argv
    assert "--no-proxy-headers" in (BASE_DIR / "docs" / "engines.md").read_text()
