"""What a request calls its charset: read as UTF-8 all the same, or refused in words, and never an error of ours."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.test import Client, RequestFactory

from console.asgi import application
from console.forms import typed
from console.middleware import forms_in_utf8
from console.sessions import SessionStore
from console.utf8 import Utf8Request

FORM, PARTS, JSON = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/json"
SENT = {
    FORM: b"a=%C3%A4",
    PARTS: b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xc3\xa4\r\n--b--\r\n',
    JSON: b"{}",
}
STRANGE = ("rot13", "idna", "undefined", "zip", "utf-16", "latin-1", "none-such", "\x00")


def asked(path: str, kind: str, more: str, body: bytes = b"") -> Utf8Request:
    """Return the request that the web process makes of this content type."""
    sent = body or SENT[kind]
    headers = [(b"host", b"localhost"), (b"content-type", (kind + more).encode("latin-1"))]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"q=%C3%A4",
        "headers": [*headers, (b"content-length", str(len(sent)).encode())],
    }
    return Utf8Request(scope, BytesIO(sent))


def answer(request: HttpRequest) -> Any:
    return forms_in_utf8(lambda asked: HttpResponse(f"{dict(asked.GET)} {dict(asked.POST)}"))(request)


@pytest.mark.parametrize("charset", ["rot13", "undefined", "none-such"])
def test_what_is_served_answers_a_strange_charset_in_words(charset: str, transactional_db: None) -> None:
    """Through everything that stands before a view, as the web process serves it."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/accounts/login/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", f"{FORM}; charset={charset}".encode())],
    }

    async def scene() -> Any:
        call: Any = ApplicationCommunicator(application, scope)  # type: ignore[no-untyped-call]
        await call.send_input({"type": "http.request", "body": SENT[FORM]})
        begun = await call.receive_output(60)
        await call.wait(60)
        return begun["status"]

    assert asyncio.run(scene()) == 415


@pytest.mark.parametrize("charset", STRANGE)
@pytest.mark.parametrize("kind", [FORM, PARTS])
def test_a_form_in_another_charset_is_refused_in_words(kind: str, charset: str) -> None:
    page = answer(asked("/inbox/", kind, f"; charset={charset}"))
    assert page.status_code == 415 and "forms are read as UTF-8. Nothing was changed." in page.content.decode()
    program = answer(asked("/api/v1/runs", kind, f"; charset={charset}"))
    assert (program.status_code, program["Content-Type"]) == (415, "application/problem+json")


@pytest.mark.parametrize("more", ["", "; charset=utf-8", "; charset=UTF8", "; charset=us-ascii", "; a*=rot13''%41"])
@pytest.mark.parametrize("kind", [FORM, PARTS])
def test_any_other_form_is_read(kind: str, more: str) -> None:
    assert answer(asked("/inbox/", kind, more)).content.decode() == "{'q': ['ä']} {'a': ['ä']}"


@pytest.mark.parametrize("charset", STRANGE)
def test_json_is_utf8_whatever_it_is_called(charset: str) -> None:
    assert answer(asked("/api/v1/runs", JSON, f"; charset={charset}")).content.decode() == "{'q': ['ä']} {}"


@pytest.mark.parametrize("charset", ["rot13", "undefined", "none-such"])
def test_a_part_that_names_a_charset_of_its_own_is_read_or_malformed(charset: str) -> None:
    part = f"--b\r\nContent-Disposition: form-data; name*={charset}''%41%C3\r\n\r\nx\r\n--b--\r\n".encode()
    with suppress(MultiPartParserError):  # which Django answers with 400, and nothing else
        assert len(asked("/inbox/", PARTS, "", part).POST) <= 1


@pytest.mark.parametrize("address", ["http://[", "http://testserver:x/", "//", "null"])
def test_a_header_that_names_no_address_names_no_page_of_ours(address: str, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    request = RequestFactory().post("/x", {"a": "b"}, headers={"Referer": address, "Origin": address})
    assert not typed.came_from_here(request) and typed.page_before(request) == "/"


@pytest.mark.parametrize("key", ["abcdefgh\x00", "ä" * 8, "A" * 32, "x" * 41, "short", "", None])
def test_what_no_session_of_ours_is_called_is_asked_for_nowhere(key: str | None) -> None:
    assert SessionStore(key).session_key is None


def test_a_session_of_ours_keeps_its_name() -> None:
    assert SessionStore("0123456789abcdefghijklmnopqrstuv").session_key == "0123456789abcdefghijklmnopqrstuv"


def test_what_is_no_address_is_nowhere_to_go_after_the_sign_in(client: Client, db: None) -> None:
    User.objects.create_user("ada", password="a long password of hers")
    assert client.get("/accounts/login/", {"next": "http://["}).status_code == 200
    sent = {"login": "ada", "password": "a long password of hers", "next": "http://["}
    assert client.post("/accounts/login/", sent).headers["Location"] == "/"
