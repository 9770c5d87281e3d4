"""Every address, knocked at with what no page of ours would send: never an error of ours, always a sentence.

The names that an address takes are learned from the views themselves, so a new field is tried without a line here.
`--histories 1000` tries everything with everything; by itself each name gets a share of it, another share each.
"""

from __future__ import annotations

import json
import random
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from django.db import transaction
from django.http import QueryDict
from django.test import Client

from console import health
from dataplane import api as dataplane_api
from dataplane import flow_run_actions
from tests.api_caller import Caller
from tests.boundaries.test_permission_matrix import PAGES, addresses
from tests.console.test_api_access import ENDPOINTS
from tests.dataplane.fakes import FakePrefect, NoDeployments, stand_in

from .rows import Rows
from .world import World, make_world

pytestmark = pytest.mark.django_db

#: what a browser, a script or a hand can send as one text
TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\udcff\ud800",  # sent as bytes that are no UTF-8
    "\u202egnp.exe",
    "\ufeff",
    "-1",
    "0",
    "٣",
    "²",
    "99999999999",
    "9" * 5000,
    "1e400",
    "NaN",
    "Infinity",
    "0x10",
    "true",
    "null",
    "[]",
    "{}",
    '"\\ud800"',
    '{"a": "\\ud800"}',
    '{"a": "\\u0000"}',
    '{"a": 1, "a": 2}',
    '{"a": 1e400}',
    "[" * 5000,
    '{"a":' * 900 + "1" + "}" * 900,
    "0001-01-01",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31",
    "9999-12-31T23:59:59.999999-23:59",
    "0000-00-00",
    "2026-02-30",
    "2026-11-01T10:00+01:00",
    "{00000000-0000-4000-8000-000000000009}",
    "00000000-0000-4000-8000-00000000000A",
    "urn:uuid:00000000-0000-4000-8000-000000000009",
    "../../etc/passwd",
    "a" * 300,
    "x" * 100_000,
    "(a+)+$",
    "' OR 1=1 --",
    "%",
    "%00",
    "http://[",
    "//evil.example/",
    "Europe",
    "apr_x:1:" + "0" * 64,
    "apr_x:99999999999:" + "0" * 64,
    "a:b:c:d",
    "\r\nSet-Cookie: a=b",
    # cursors of ours, forged
    "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgIjEiXQ",
    "WyI5OTk5LTEyLTMxVDIzOjU5OjU5LTIzOjU5IiwgImEiXQ",
    "W1tbW1tbW10",
    "bnVsbA",
)
#: what a program can send as one value, as it is written
VALUES = (
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "9007199254740993",
    "99999999999",
    "9" * 310,
    "1e400",
    "-1e308",
    "NaN",
    "-Infinity",
    '""',
    '" "',
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\u202e"',
    '"' + "x" * 300 + '"',
    '"' + "x" * 100_000 + '"',
    "[]",
    "{}",
    '{"\\u0000": 1}',
    '{"\\ud800": 1}',
    '{"a": 1, "a": 2}',
    '["\\ud800"]',
    '{"$ref": "#"}',
    '{"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}',
    '{"type": "string", "pattern": "(a+)+$"}',
    '{"type": 5, "properties": [], "required": {}}',
    "[" * 900 + "]" * 900,
    '{"a":' * 900 + "1" + "}" * 900,
    "[" * 5000,
    "[" + ",".join(["1"] * 20_000) + "]",
    '"0001-01-01T00:00:00+23:59"',
    '"9999-12-31T23:59:59-23:59"',
    '"0001-01-01"',
    '"9999-12-31"',
    '"2026-11-24"',
    '"{00000000-0000-4000-8000-00000000000A}"',
    '"(a+)+$"',
    '"http://["',
    '"../../etc/passwd"',
)
HERE = "⟪here⟫"


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> FakePrefect:
    fake = stand_in(monkeypatch)
    for module in (dataplane_api, flow_run_actions):
        monkeypatch.setattr(module, "gateway", lambda: fake)
    for name in ("dataplane.api.flow_runs", "dataplane.pages.flow_run_work", "dataplane.pages.pools"):
        monkeypatch.setattr(f"{name}.deployments", NoDeployments, raising=False)
    monkeypatch.setattr("dataplane.pages.flow_run_work.gateway", lambda: fake)
    return fake


@pytest.fixture
def world(db: None, prefect: FakePrefect) -> World:
    return make_world(prefect)


@contextmanager
def asked_names() -> Iterator[set[str]]:
    """Collect the names of the fields that are asked for."""
    found: set[str] = set()
    with pytest.MonkeyPatch.context() as patched:
        for name in ("get", "getlist", "__getitem__", "__contains__"):
            patched.setattr(QueryDict, name, _noting(getattr(QueryDict, name), found))
        yield found
    found -= {"csrfmiddlewaretoken", "_method", "_encoding"}


def _noting(real: Any, found: set[str]) -> Any:
    def noting(self: QueryDict, key: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(key, str):
            found.add(key)
        return real(self, key, *rest, **more)

    return noting


def fault_of(answer: Any, *, is_for_programs: bool) -> str:
    """Return what is wrong with an answer, "" when it is one of ours, and in words and whole where it refuses."""
    if answer.status_code >= 500 and answer.status_code != 503:
        told = getattr(answer, "exc_info", None)
        return f"{answer.status_code} " + ("".join(traceback.format_exception(*told)[-3:]) if told else "")
    if answer.status_code < 400:
        return ""
    if answer.written:
        return f"{answer.status_code}, and yet it wrote to {', '.join(answer.written)}"
    if not is_for_programs:
        return "" if len(answer.content) > 40 else f"{answer.status_code} without words: {answer.content!r}"
    if answer["Content-Type"] != "application/problem+json":
        return f"{answer.status_code} is {answer['Content-Type']}"
    told = answer.json()
    errors = told.get("errors", [])
    is_told = len(told["detail"]) > 15 and all(one["message"] and "path" in one for one in errors)
    return "" if is_told else f"{answer.status_code} without words: {told}"


def some(of: tuple[str, ...], of_what: str, many: int) -> list[str]:
    """Return this name's share."""
    return list(of) if many >= len(of) else random.Random(of_what).sample(of, many)


def tried(call: Callable[[], Any], before: Rows | None = None) -> Any:
    """Return the answer; what it has written is taken back, so that no door finds what another one did.

    `before`: then a refusal tells in `written` the tables that it has written to all the same.
    """
    with transaction.atomic():
        answer = call()
        if getattr(answer, "streaming", False):
            b"".join(answer.streaming_content)
        answer.written = before.written() if before and 400 <= answer.status_code < 500 else []
        transaction.set_rollback(True)
    return answer


def _filled(path: str, world: World, **changed: str) -> str:
    for name, value in (world.ids | changed).items():
        for kind in ("id:", "str:", "slug:", "int:", ""):
            path = path.replace(f"<{kind}{name}>", str(value))
    return re.sub("<(?:([a-z]+):)?[a-z_]+>", lambda kind: "1" if kind[1] == "int" else "unknown", path)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("space", ["approvals", "orchestration", "dataplane", ""])
def test_no_page_breaks_whatever_is_sent_to_it(space: str, method: str, world: World, how_many_examples: int) -> None:
    doors = [
        door for door in sorted(PAGES) if (door.partition(":")[0] == space) or (not space and not _of_an_app(door))
    ]
    faults = []
    for door in doors:
        if PAGES[door][method == "post"] is not None:
            faults += _knocked_at(door, method, world, max(3, how_many_examples // 8))
    assert doors and not faults, "\n".join(faults[:8])


def _of_an_app(door: str) -> bool:
    return door.partition(":")[0] in ("approvals", "orchestration", "dataplane")


def _knocked_at(door: str, method: str, world: World, share: int) -> list[str]:
    path = _filled(dict(addresses())[door], world)
    client = Client(raise_request_exception=False)
    client.force_login(world.everybody, backend="django.contrib.auth.backends.ModelBackend")
    session = client.cookies["sessionid"].value
    faults: list[str] = []

    def knock(sent: dict[str, str], by_script: bool) -> None:
        headers = {"HX-Request": "true"} if by_script else {}
        client.cookies["sessionid"] = session  # one of them signs out
        answer = tried(lambda: getattr(client, method)(path, sent, headers=headers), world.before)
        if fault := fault_of(answer, is_for_programs=False):
            faults.append(f"{method} {path} { {name: value[:60] for name, value in sent.items()} }: {fault}")

    with asked_names() as names:
        known: set[str] = set()
        base: dict[str, str] = {}
        knock({}, by_script=False)
        for _ in range(2):  # what is sent brings further names up
            base |= {name: world.plausible[name] for name in sorted(names) if name in world.plausible}
            knock(base, by_script=False)
        while fresh := sorted(names - known):
            known |= set(fresh)
            for name in fresh[:60]:
                for number, text in enumerate(some(TEXTS, f"{door} {method} {name}", share)):
                    knock(base | {name: text.encode("utf-8", "replace").decode()}, by_script=number % 4 == 3)
    return faults


def test_no_address_breaks_whatever_stands_in_it(world: World) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(world.everybody, backend="django.contrib.auth.backends.ModelBackend")
    faults = []
    for door, path in sorted(addresses()):
        for name in (name for name in world.ids if f":{name}>" in path or f"<{name}>" in path):
            for text in some(TEXTS, f"{door} {name}", 8):
                if "/" in text or not text:
                    continue
                given = text.encode("utf-8", "replace").decode()[:2000]
                here = _filled(path, world, **{name: given})
                answer = tried(lambda: client.get(here), world.before)  # noqa: B023  # it is called here and now
                if fault := fault_of(answer, is_for_programs=False):
                    faults.append(f"{here[:200]}: {fault}")
    assert not faults, "\n".join(faults[:8])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_no_endpoint_breaks_whatever_is_sent_to_it(method: str, world: World, how_many_examples: int) -> None:
    callers = {one.pk: Caller(one) for one in (world.everybody, world.robot)}
    for caller in callers.values():
        caller.raise_errors(False)
    faults = []
    for endpoint in (one for one in sorted(ENDPOINTS) if one.startswith(method)):
        faults += _called(endpoint, world, callers, max(3, how_many_examples // 8))
    assert not faults, "\n".join(faults[:8])


def _called(endpoint: str, world: World, callers: dict[int, Caller], share: int) -> list[str]:
    allowed, body = ENDPOINTS[endpoint]
    method, template = endpoint.split(" /")
    by = world.robot if "service" in allowed and "operator" not in allowed else world.everybody
    caller = callers[by.pk]
    ids = world.ids | {"approval_id": world.ids["asked_id"]} if by == world.robot else world.ids
    ids = dict.fromkeys(re.findall(r"{(\w+)}", template), "1") | ids
    path = template.format_map(ids) + ("?entity=e" if "{view}" in template else "")
    faults: list[str] = []

    def knock(sent: str | None, here: str = path, **query: str) -> None:
        if method == "GET":
            answer = tried(lambda: caller.get(here, **query), world.before)
        else:
            send = caller.put if method == "PUT" else caller.post
            answer = tried(lambda: send(here, sent), world.before)
        if fault := fault_of(answer, is_for_programs=True):
            shown = {name: value[:60] for name, value in query.items()}
            faults.append(f"{method} {here[:100]} {shown or (sent or '')[:300]}: {fault}")

    with asked_names() as names:
        knock(json.dumps(body))
        names |= set(_parameters(endpoint))
    for name in sorted(names) if method == "GET" else []:
        for text in some(TEXTS, f"{endpoint} {name}", share):
            knock(None, **{name: text.encode("utf-8", "replace").decode()})
    for name in (name for name in ids if f"{{{name}}}" in template):
        for text in some(TEXTS, f"{endpoint} {name} in the address", share):
            if text and "/" not in text and "?" not in text:
                given = text.encode("utf-8", "replace").decode()[:2000].replace("%", "%25").replace("#", "%23")
                knock(json.dumps(body), template.format_map(ids | {name: given}))
    if method != "GET":
        for shape in _shapes(body, _body_schema(endpoint)):
            for value in some(VALUES, f"{endpoint} {shape}", share):
                knock(shape.replace(json.dumps(HERE), value))
    return faults


def _described() -> dict[str, Any]:
    from console.api import api

    described: dict[str, Any] = api.get_openapi_schema(path_prefix="")
    return described


def _operation(endpoint: str) -> dict[str, Any]:
    method, path = endpoint.split(" ")
    found: dict[str, Any] = _described()["paths"][path][method.lower()]
    return found


def _parameters(endpoint: str) -> list[str]:
    return [one["name"] for one in _operation(endpoint).get("parameters", []) if one["in"] == "query"]


def _body_schema(endpoint: str) -> dict[str, Any]:
    content = _operation(endpoint).get("requestBody", {}).get("content", {})
    schema: dict[str, Any] = content.get("application/json", {}).get("schema", {})
    for one in schema.get("anyOf", [schema]):
        if "$ref" in one:
            named: dict[str, Any] = _described()["components"]["schemas"][one["$ref"].rsplit("/", 1)[1]]
            return named
    return schema


def _shapes(body: Any, schema: dict[str, Any]) -> list[str]:
    """Return the body as JSON with a hole in place of each of its values, of each field that it lacks, of itself."""
    whole = [json.dumps(HERE)]
    if not isinstance(body, dict):
        return whole
    fields = dict.fromkeys([*body, *schema.get("properties", {}), "unknown_field"])
    holes = [json.dumps({**body, name: HERE}) for name in fields]
    inner = [
        json.dumps({**body, name: {**value, key: HERE}})
        for name, value in body.items()
        if isinstance(value, dict)
        for key in (*value, "further")
    ]
    return whole + holes + inner


#: requests that no form makes: headers, cookies and bodies
ODD: dict[str, dict[str, Any]] = {
    "charset-utf-16": {"content_type": "application/x-www-form-urlencoded; charset=utf-16", "data": "a=b"},
    "charset-unknown": {"content_type": "application/json; charset=none-such", "data": "{}"},
    "multipart-without-boundary": {"content_type": "multipart/form-data", "data": "x"},
    "multipart-cut": {"content_type": "multipart/form-data; boundary=b", "data": "--b\r\nContent-Disposition: form-"},
    "multipart-base64": {
        "content_type": "multipart/form-data; boundary=b",
        "data": '--b\r\nContent-Disposition: form-data; name="reason"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        "x\r\n--b--\r\n",
    },
    "not-utf-8": {"content_type": "application/json", "data": b"\xff\xfe{}"},
    "not-utf-8-form": {"content_type": "application/x-www-form-urlencoded", "data": b"reason=%FF%FE\xff&\xff=1"},
    "bom": {"content_type": "application/json", "data": b"\xef\xbb\xbf{}"},
    "no-body": {"content_type": "application/json", "data": b""},
    "text": {"content_type": "text/plain", "data": b"hello"},
    "no-content-type": {"content_type": "", "data": b"hello"},
    "xml": {"content_type": "application/xml", "data": b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a/>"},
    "many-fields": {
        "content_type": "application/x-www-form-urlencoded",
        "data": "&".join(f"a{n}=1" for n in range(1500)),
    },
    "too-large": {"content_type": "application/x-www-form-urlencoded", "data": "reason=" + "x" * 3_000_000},
    "too-large-json": {"content_type": "application/json", "data": '{"reason": "' + "x" * 3_000_000 + '"}'},
    "origin": {"headers": {"Origin": "http://["}},
    "origin-null": {"headers": {"Origin": "null"}},
    "referer": {"headers": {"Referer": "http://["}},
    "referer-port": {"headers": {"Referer": "http://testserver:99999999/inbox/"}},
    "current-url": {"headers": {"HX-Request": "true", "HX-Current-URL": "http://["}},
    "current-url-encoded": {
        "headers": {"HX-Request": "true", "HX-Current-URL": "%FF%00", "HX-Current-URL-URI-AutoEncoded": "true"}
    },
    "triggering-event": {"headers": {"HX-Request": "true", "Triggering-Event": "{", "HX-Target": "\xff"}},
    "drawn-for": {"headers": {"HX-Request": "true", "X-Drawn-For": "\x00"}},
    "key": {"headers": {"Idempotency-Key": "a\x00b"}},
    "key-latin": {"headers": {"Idempotency-Key": "\xe4"}},
    "key-long": {"headers": {"Idempotency-Key": "x" * 10_000}},
    "bearer": {"headers": {"Authorization": "Bearer \x00"}},
    "bearer-long": {"headers": {"Authorization": "Bearer " + "x" * 50_000}},
    "host": {"headers": {"Host": "evil.example"}},
    "host-broken": {"headers": {"Host": "[::1"}},
    "forwarded": {"headers": {"X-Forwarded-For": "a\x00, [::1, 1.2.3.4:99999", "X-Forwarded-Host": "["}},
    "since": {"headers": {"If-Modified-Since": "Fri, 32 Foo 0000 99:99:99 GMT", "If-None-Match": '"\xff'}},
    "range": {"headers": {"Range": "bytes=9-1"}},
    "languages": {"headers": {"Accept-Language": "a" * 5000, "Accept": "\x00;q=x"}},
    "override": {"headers": {"X-HTTP-Method-Override": "DELETE"}},
    "session-nul": {"cookie": 'sessionid="abcdefgh\\000"'},
    "session-odd": {"cookie": "sessionid=" + "x" * 4000},
    "session-accents": {"cookie": 'sessionid="\\344\\344\\344\\344\\344\\344\\344\\344"'},
    "typist": {"cookie": 'typist="1:\\000:\\377"'},
    "device": {"cookie": 'signalbox_device="\\000:\\000"'},
    "csrf": {"cookie": 'csrftoken="\\000"'},
    "messages": {"cookie": 'messages="\\000:[[[["'},
    "cookies": {"cookie": "; ".join(f"a{n}=b" for n in range(500)) + "; =; ;;\xff"},
    "query-charset": {"query": "a=%FF%FE&cursor=%ED%A0%80&search=%00&limit=%F0"},
    "query-many": {"query": "&".join(f"a{n}=1" for n in range(1500))},
}
DOORS = (
    "/inbox/",
    "/runs/",
    "/typed/",
    "/system/",
    "/accounts/login/",
    "/api/v1/approvals",
    "/api/v1/runs",
    "/nothing/",
)


@pytest.mark.parametrize("who", ["somebody", "a stranger"])
def test_no_odd_request_breaks_a_door(who: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "report", lambda *_, **__: (200, {"status": "ok", "parts": {}}))
    doors = [*DOORS, f"/approvals/{world.ids['approval_id']}/decision", "/batches/new/", "/delegations/make"]
    doors += [f"/api/v1/approvals/{world.ids['approval_id']}/decision", "/api/v1/approvals/decisions"]
    faults, clients = [], {}
    for checks in (False, True):
        clients[checks] = Client(raise_request_exception=False, enforce_csrf_checks=checks)
        if who == "somebody":
            clients[checks].force_login(world.everybody, backend="django.contrib.auth.backends.ModelBackend")
    ways = (("GET", False), ("POST", False), ("POST", True))
    for number, (odd, path) in enumerate(product(sorted(ODD), doors)):
        method, checks = ways[number % len(ways)]  # each door gets each way, by turns
        client = clients[checks]
        answer = tried(lambda: _sent(client, method, path, ODD[odd]), world.before)  # noqa: B023  # called here and now
        if fault := fault_of(answer, is_for_programs=path.startswith("/api/")):
            faults.append(f"{odd}: {method} {path} {'with' if checks else 'without'} CSRF: {fault}")
    assert not faults, "\n".join(faults[:8])


def _sent(client: Client, method: str, path: str, odd: dict[str, Any]) -> Any:
    more: dict[str, Any] = {"headers": odd.get("headers", {})}
    if "cookie" in odd:
        held = client.cookies.output(attrs=[], header="", sep=";")
        more["HTTP_COOKIE"] = ";".join(filter(None, (odd["cookie"], held)))
    if "query" in odd:
        more["QUERY_STRING"] = odd["query"]
    body = odd.get("data", "reason=x")
    kind = odd.get("content_type", "application/x-www-form-urlencoded")
    return client.generic(method, path, body.encode() if isinstance(body, str) else body, kind, **more)


#: drafts of a policy that no page of ours has carried
DRAFTS = (
    "",
    "5",
    "{}",
    '{"based_on": 0, "rules": [5, null, []], "calendars": {"a": 5}}',
    '{"based_on": 0, "rules": [{"match": 5, "people": 7, "needed": {}, "name": []}], "calendars": {"a": {"hours": 5}}}',
    '{"based_on": 0, "rules": [{"name": "\\ud800"}], "calendars": {}}',
    '{"based_on": 0, "rules": [{"name": "\\u0000"}], "calendars": {"a": {"holidays": 5, "hours": {"monday": [5]}}}}',
    '{"based_on": 1e400, "rules": [], "calendars": {}}',
    f'{{"based_on": {"9" * 300}, "rules": [], "calendars": {{}}}}',
    '{"based_on": -1, "rules": {}, "calendars": []}',
    '{"based_on": 0, "rules": [' + "[" * 300 + "]" * 300 + '], "calendars": {}}',
    '{"based_on": 0, "rules": [{"name": "a"}, {"name": "a"}], "calendars": {"": {}}, "note": {"a": 1}}',
)


VERBS = (
    *("add", "edit:0", "keep:0", "up:1", "down:0", "remove:0", "json", "keep-json", "none", "preview", "propose"),
    *("calendar:a", "calendar:none", "keep-calendar:a", "remove-calendar:a"),
)


def test_no_draft_of_a_policy_breaks_its_page(world: World) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(world.everybody, backend="django.contrib.auth.backends.ModelBackend")
    path, faults = dict(addresses())["approvals:policy_edit"], []
    typed = {"note": "because", "calendar": "a", "timezone": "../x", "holidays": "0001-01-01"}
    for do, draft, more in product(VERBS, DRAFTS, ({}, typed)):
        sent = {"draft": draft, "do": do, **more} | ({"json": draft} if more else {})
        answer = tried(lambda: client.post(path, sent), world.before)  # noqa: B023  # called here and now
        if fault := fault_of(answer, is_for_programs=False):
            faults.append(f"{do} {draft[:90]}: {fault}")
    assert not faults, "\n".join(faults[:8])
