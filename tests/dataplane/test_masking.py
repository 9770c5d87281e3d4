"""Who sees a flow run's parameters, and that no secret is among them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from dataplane import masking, registered
from dataplane.catalogue import CATALOGUE, HANDBOOK
from dataplane.credentials import without_credentials
from dataplane.currency import told
from dataplane.deployments import MOST_COLUMNS, table_of
from dataplane.masking import Declared, of_dataset, secret_texts
from dataplane.prefect_gateway import MOST_ROWS
from dataplane.refreshes.claim import fail
from dataplane.refreshes.request import request_refresh
from dataplane.secret_fields import DEEPEST, MASK, declares_secret

from .fakes import FakePrefect

OURS = next(iter(CATALOGUE.values())).flow
DAILY = next(iter(CATALOGUE.values())).deployment


def shown(parameters: dict[str, Any], *, flow: str, schema: Any, user: User, **more: Any) -> Any:
    return masking.shown(parameters, Declared(flow, more.pop("deployment", DAILY), schema, **more), user)


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
        "password2",
        "DB_PASSWORD1",
        "dbPassword",
        "client_secret",
        "token",
        "accessToken",
        "API_KEY",
        "apiKey",
        "private-key",
    ],
)
def test_what_is_named_like_a_secret_is_shown_to_nobody(name: str, ada: User) -> None:
    parameters: Any = {"rows": [{name: "hunter2", "key": "2026-11-28", "max_tokens": 5}], name: {"deep": "hunter2"}}
    seen = shown(parameters, flow="somebody-elses", schema={"type": "object"}, user=ada)
    assert "hunter2" not in str(seen)
    assert seen["rows"][0]["key"] == "2026-11-28" and seen["rows"][0]["max_tokens"] == 5


def test_everybody_sees_the_names_alone_of_somebody_elses_flow_whose_schema_is_unknown(
    alice: User, olga: User, ada: User
) -> None:
    parameters = {"folder": "a", "rows": [1, None], "on": True}
    for user in (alice, olga, ada):
        names = {"folder": MASK, "rows": [MASK, None], "on": MASK}
        assert shown(parameters, flow="somebody-elses", schema={}, user=user) == names
        assert shown(parameters, flow=OURS, deployment="", schema={}, user=user) == names, "a stranger of our name"
    for user in (olga, ada):
        assert shown(parameters, flow="somebody-elses", schema={"type": "object"}, user=user) == parameters
    assert shown(parameters, flow=OURS, schema={}, user=alice) == parameters


def test_of_a_deployment_that_is_gone_nothing_is_read_in_what_its_run_said() -> None:
    given = {"opener": "hunter2", "door": {"pin": 4929}, "on": True, "at": "eu"}
    gone = Declared("somebody-elses", "", {})
    assert secret_texts(given, gone) == ["hunter2", "4929"]
    assert masking.without("opened with hunter2, 4929", secret_texts(given, gone)) == f"opened with {MASK}, {MASK}"
    assert masking.data_without({"pin": 4929, "rows": 5}, ["4929"]) == {"pin": MASK, "rows": 5}
    assert secret_texts(given, Declared("somebody-elses", "d", {"type": "object"})) == []


def test_what_its_registration_calls_secret_is_shown_to_nobody(
    alice: User, olga: User, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"door_code": "4929x", "day": "2026-11-28"}
    described = {"properties": {"door_code": {"type": "string"}, "day": {"type": "string"}}}
    kept = {"door_code": MASK, "day": "2026-11-28"}
    for user in (alice, olga, ada):
        assert shown(given, flow="load", schema=described, user=user, kept=kept) == kept, "its entry is gone since"
        assert shown(given, flow="load", schema=described, user=user) == given
    entry = type("Entry", (), {"flow": "load", "secret": ("door_code",)})
    loaded = type("Loaded", (), {"entries": {"orders": entry}, "faults": ()})
    monkeypatch.setattr(registered, "load", lambda: loaded)
    for user in (alice, olga, ada):
        assert shown(given, flow="load", schema=described, user=user) == kept
        assert shown(given, flow="unload", schema=described, user=user) == given


def test_what_was_masked_when_it_was_kept_is_not_read_in_what_the_run_says() -> None:
    described = {"properties": {"door_code": {"type": "string"}, "door": {"type": "object"}, "day": {"type": "string"}}}
    given = {"door_code": "4929x", "door": {"code": "hunter2", "name": "north"}, "day": "2026-11-28"}
    kept = {"door_code": MASK, "door": {"code": MASK, "name": "north"}, "day": "2026-11-28"}
    assert secret_texts(given, Declared("load", "d", described)) == []
    assert secret_texts(given, Declared("load", "d", described, kept)) == ["hunter2", "4929x"]


def test_while_a_registration_is_not_understood_every_value_of_somebody_elses_flow_is_hidden(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, described = {"door_code": "4929x"}, {"properties": {"door_code": {"type": "string"}}}
    theirs, ours = Declared("load", "d", described), Declared(OURS, DAILY, described)
    for text in ("not toml", '[jobs.other]\ndeployment = "a/b"\nfresh_for = "soon"'):
        monkeypatch.setattr(registered, "load", lambda text=text: registered.parse(text))
        assert masking.shown(given, theirs, ada) == {"door_code": MASK}
        assert secret_texts(given, theirs) == ["4929x"]
        assert (theirs.unknown_because, ours.unknown_because) == (masking.MISREAD, "")
        assert masking.shown(given, ours, ada) == given and secret_texts(given, ours) == []
    monkeypatch.setattr(registered, "load", lambda: registered.parse(""))
    assert masking.shown(given, theirs, ada) == given, "mended"


def test_what_was_masked_when_it_was_kept_stays_masked_at_any_depth(ada: User) -> None:
    given = {"door": {"code": "x1", "name": "n"}, "rows": [1, 2, 3], "more": "y", "none": None}
    kept = {"door": {"code": MASK, "name": "n"}, "rows": [1, MASK], "none": MASK, "gone": MASK}
    seen = shown(given, flow="load", schema={"type": "object"}, user=ada, kept=kept)
    assert seen == {"door": {"code": MASK, "name": "n"}, "rows": [1, MASK, 3], "more": "y", "none": None}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connect postgresql://app:hunter2@db:5432/x failed", f"connect postgresql://app:{MASK}@db:5432/x failed"),
        ("GET https://user:p%40ss@host/a", f"GET https://user:{MASK}@host/a"),
        ("redis://:hunter2@cache", f"redis://:{MASK}@cache"),
        ("Authorization: Bearer abc.def", f"Authorization: {MASK}"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
        ("mail ana@example.com at 10:30", "mail ana@example.com at 10:30"),
    ],
)
def test_a_text_keeps_everything_but_the_credentials(text: str, told: str) -> None:
    assert without_credentials(text) == told


class Door(BaseModel):
    """Nothing in it is named like a secret."""

    host: str
    opener: SecretStr
    inner: Door | None = None


class Parameters(BaseModel):
    day: str = ""
    rows: int = 0
    plain: SecretStr | None = None
    raw: SecretBytes | None = None
    door: Door | None = None
    doors: list[Door] = []
    by_name: dict[str, SecretStr] = {}
    doors_by_name: dict[str, Door] = {}
    pair: tuple[str, SecretStr] | None = None
    marked: Annotated[str, Field(json_schema_extra={"writeOnly": True})] = ""
    loose: dict[str, Any] = {}
    other: Any = None


SCHEMA = Parameters.model_json_schema()
A_DOOR = {"host": "db", "opener": "hunter2", "inner": {"host": "in", "opener": "hunter2"}}
ALL: dict[str, Any] = {
    "day": "2026-11-28",
    "rows": 5,
    "plain": "hunter2",
    "raw": "hunter2",
    "door": A_DOOR,
    "doors": [A_DOOR, A_DOOR],
    "by_name": {"eu": "hunter2"},
    "doors_by_name": {"eu": A_DOOR},
    "pair": ["left", "hunter2"],
    "marked": "hunter2",
}


def test_what_the_schema_declares_secret_is_shown_to_nobody_at_any_depth(alice: User, olga: User, ada: User) -> None:
    for user in (alice, olga, ada):
        for flow in ("somebody-elses", OURS):
            seen = shown(ALL, flow=flow, schema=SCHEMA, user=user)
            assert "hunter2" not in str(seen)
            assert (seen["day"], seen["rows"]) == ("2026-11-28", 5)
            assert seen["doors"][1] == {"host": "db", "opener": MASK, "inner": {"host": "in", "opener": MASK}}
            assert seen["by_name"] == {"eu": MASK} and seen["pair"] == ["left", MASK]


def test_a_reviewer_sees_nothing_that_the_schema_does_not_describe(alice: User, olga: User) -> None:
    given = {"day": "2026-11-28", "loose": {"a": "x"}, "other": {"b": ["x"]}}
    seen = shown(given, flow="somebody-elses", schema=SCHEMA, user=alice)
    assert seen == {"day": "2026-11-28", "loose": {"a": MASK}, "other": {"b": [MASK]}}
    assert shown(given, flow="somebody-elses", schema=SCHEMA, user=olga) == given


def test_beside_a_secret_an_unknown_name_may_be_its_earlier_one(olga: User) -> None:
    given = {"day": "2026-11-28", "plain_before": "hunter2", "door": {"host": "db", "opener_before": "hunter2"}}
    seen = shown(given, flow="somebody-elses", schema=SCHEMA, user=olga)
    assert seen == {"day": "2026-11-28", "plain_before": MASK, "door": {"host": "db", "opener_before": MASK}}


@pytest.mark.parametrize(
    "schema",
    [
        {"definitions": {"S": {"format": "password"}}, "properties": {"a": {"$ref": "#/definitions/S", "title": "A"}}},
        {"properties": {"a": {"allOf": [{"anyOf": [{"type": "null"}, {"oneOf": [{"writeOnly": True}]}]}]}}},
        {"patternProperties": {"^a$": {"format": "password"}}},
        {"properties": {"a": {"type": "object", "properties": {"b": {}}, "secret_fields": ["b"]}}},
        {"properties": {"a": {"type": "object", "secret_fields": ["b.*"]}}},
        {"properties": {"a": {"type": "object", "propertyNames": {"format": "password"}}}},
        {"allOf": [{"properties": {"a": {"format": "password"}}}], "properties": {"a": {"type": "object"}}},
        {"if": {}, "then": {"properties": {"a": {"writeOnly": True}}}},
        {"properties": {"a": {"$ref": "#/definitions/Gone", "type": "object"}}},
        {"properties": {"a": {"$ref": "https://elsewhere.example/schema"}}},
        {"properties": {"a": {"$ref": "#"}}, "additionalProperties": {"format": "password"}},
    ],
)
def test_every_way_of_saying_it_is_understood(schema: dict[str, Any], ada: User) -> None:
    assert "hunter2" not in str(shown({"a": {"b": "hunter2"}}, flow="somebody-elses", schema=schema, user=ada))


@pytest.mark.parametrize(
    "schema", [[], "text", {"properties": []}, {"properties": {"a": 5}}, {"$ref": "#"}, {"$ref": 5}]
)
def test_a_schema_that_is_none_says_nothing_to_a_reviewer(schema: Any, alice: User) -> None:
    assert shown({"a": "hunter2"}, flow="somebody-elses", schema=schema, user=alice) == {"a": MASK}


def test_too_deep_a_value_and_too_large_a_schema_are_masked(ada: User) -> None:
    deep: Any = "hunter2"
    for _ in range(DEEPEST + 5):
        deep = [deep]
    assert "hunter2" not in str(shown({"a": deep}, flow="somebody-elses", schema={}, user=ada))
    choices: dict[str, Any] = {"items": {"anyOf": [{"title": str(number)} for number in range(1000)]}}
    given = {"a": ["x"] * 1000}
    assert shown(given, flow="somebody-elses", schema={"properties": {"a": choices}}, user=ada) == {"a": MASK}


def test_no_dataset_takes_a_secret() -> None:
    assert not declares_secret(HANDBOOK.parameters_schema())
    with pytest.raises(TypeError, match="has a secret among its parameters"):
        replace(HANDBOOK, parameters=Parameters)


def test_what_looks_like_a_credential_is_masked_in_our_own_rows_too() -> None:
    kept = {"folder": "eu", "passage_characters": 900, "api_key": "hunter2"}  # from a release before
    assert of_dataset(kept, "handbook") == {"folder": "eu", "passage_characters": 900, "api_key": MASK}
    assert of_dataset({"folder": "eu"}, "gone") == {"folder": "eu"}


SECRETIVE = "connection to postgresql://app:hunter2@db/x with password=hunter2 failed"


def test_why_a_refresh_failed_is_kept_and_told_without_credentials(
    database_url: str, fake_prefect: FakePrefect, ada: User, client: Client
) -> None:
    client.force_login(ada)
    row, _ = request_refresh(dataset="handbook", key="k1", user=None)
    fail(row.pk, SECRETIVE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT error FROM dataplane_refresh WHERE error <> '' AND error NOT LIKE '%hunter2%'")
        assert len(cursor.fetchall()) == 1
        cursor.execute("UPDATE dataplane_refresh SET error = %s, send_error = %s", [SECRETIVE] * 2)  # of before
    pages = (reverse("dataplane:data"), f"/api/v1/refreshes/{row.pk}", "/api/v1/refreshes")
    for text in (
        *(client.get(page).content.decode() for page in pages),
        str(told([{"dataset": "handbook", "version": 1}])),
    ):
        assert "hunter2" not in text
    assert MASK in client.get(pages[1]).json()["error"]
    row.refresh_from_db()
    row.send_error = SECRETIVE
    row.save()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM dataplane_refresh WHERE send_error LIKE '%hunter2%'")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("host=db password=hunter2 dbname=x", f"host=db password={MASK} dbname=x"),
        ("{'db_password': 'hunter2', 'max_tokens': 5}", f"{{'db_password': {MASK}, 'max_tokens': 5}}"),
        ('{"api_key": "hun ter2"}', f'{{"api_key": {MASK}}}'),
        ("GET https://x/?token=hunter2&a=b", f"GET https://x/?token={MASK}&a=b"),
        ('client_secret="hunter2', f"client_secret={MASK}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY----- end", f"{MASK} end"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2", MASK),
        ("token: expired; key=2026-11-28; max_tokens=5", "token: expired; key=2026-11-28; max_tokens=5"),
    ],
)
def test_credentials_are_found_in_every_form_that_errors_have(text: str, seen: str) -> None:
    assert without_credentials(text) == seen


@pytest.mark.parametrize("secret", ['DOM\\svc"1', "line\nbreak", "pässwört"])
def test_no_artifact_holds_a_secret_in_any_way_of_writing_it(secret: str) -> None:
    rows = [{"dsn": f"user={secret}", secret: 1}, ["x", {"deep": [secret]}]]
    for data in (
        rows,
        json.dumps(rows),
        json.dumps(rows, ensure_ascii=False),
        f"# Report {secret}",
        json.dumps(secret),
    ):
        kept = masking.data_without(data, [secret])
        assert type(kept) is type(data)
        said = kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False)
        assert secret not in said and json.dumps(secret)[1:-1] not in said and MASK in said
    assert masking.data_without("[" * 500 + "]" * 500, [secret])
    assert masking.data_without([1, None, "x"], [secret]) == [1, None, "x"]
    assert masking.data_without("0.50", [secret]) == "0.50"
    assert masking.data_without("4929", [secret, "4929"]) == MASK
    assert masking.data_without(None, [secret]) is None


def test_a_table_is_cut_before_it_is_made() -> None:
    wide = {"a": list(range(1_000_000)), **{f"b{number}": [] for number in range(1000)}}
    columns, rows = table_of(json.dumps(wide)) or ([], [])
    assert (len(columns), len(rows)) == (MOST_COLUMNS, MOST_ROWS)
    columns, rows = table_of([{f"{at}-{number}": 1 for number in range(200)} for at in range(300)]) or ([], [])
    assert (len(columns), len(rows)) == (MOST_COLUMNS, MOST_ROWS)
    columns, rows = table_of([[1] * 1000] * 300) or ([], [])
    assert (len(columns), len(rows), len(rows[0])) == (MOST_COLUMNS, MOST_ROWS, MOST_COLUMNS)
