"""Registrations: what the file may hold, what is asked of people by them, and what may be kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from console.environment import environment
from dataplane import catalogue, registered
from dataplane.errors import InvalidParameters
from dataplane.masking import Declared, kept_of, secret_texts
from dataplane.parameters import asked, cleaned
from dataplane.registered import parse
from dataplane.secret_fields import MASK

FINE = """
[datasets.orders]
deployment = "load_orders/nightly"
key = "{dataset}:{window}"
window = { every = "6 hours", zone = "Europe/Berlin", missed = "each" }
fresh_for = "90m"
[datasets.orders.parameters]
fixed = { region = "eu" }
secret = ["dsn"]
[jobs.reindex]
deployment = "reindex/manual"
"""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "dsn": {"title": "dsn", "type": "string"},
        "region": {"title": "region", "type": "string"},
        "password": {"format": "password", "writeOnly": True, "type": "string", "default": "from-the-code"},
        "window": {"$ref": "#/definitions/Window", "default": {"start": "2026-11-01"}},
        "mode": {"enum": ["full", "changed"], "type": "string", "default": "full"},
    },
    "required": ["dsn", "region"],
    "definitions": {
        "Window": {
            "type": "object",
            "properties": {"start": {"type": "string", "format": "date"}, "token": {"type": "string"}},
        }
    },
}


def test_an_entry_is_read_with_what_it_leaves_out() -> None:
    loaded = parse(FINE)
    orders, reindex = loaded.entries["orders"], loaded.entries["reindex"]
    assert loaded.faults == ()
    assert (orders.flow, orders.deployment, orders.takes, orders.is_job) == ("load_orders", "nightly", "each", False)
    assert orders.fresh_for == timedelta(minutes=90)
    assert orders.key(datetime(2026, 11, 24, 11, tzinfo=UTC)) == "orders:2026-11-24T12:00+01:00"
    assert (reindex.is_job, sorted(reindex.may_start), reindex.title) == (True, ["admin"], "Reindex")


def test_what_is_fixed_is_sent_as_json_whatever_toml_knows() -> None:
    text = FINE.replace('{ region = "eu" }', "{ since = 2026-11-24, rows = [1, 2] }")
    assert parse(text).entries["orders"].fixed == {"since": "2026-11-24", "rows": [1, 2]}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("not toml", "data.toml: "),
        ('[dataset.a]\ndeployment = "a/b"', "data.toml: [dataset] is not known: use [datasets.NAME] or [jobs.NAME]"),
        ('[datasets.a]\ndeployment = "ab"', "data.toml: datasets.a.deployment: must be the flow's name, a slash"),
        ('[datasets.a]\ndeployment = "a/b"\nfresh = "1h"', "data.toml: datasets.a.fresh: is not known"),
        ('[datasets.a]\ndeployment = "a/b"\nfresh_for = "soon"', "data.toml: datasets.a.fresh_for: must be a number"),
        ('[datasets.a]\ndeployment = "a/b"\nkey = "daily"', "data.toml: datasets.a.key: must hold {window}"),
        ('[datasets.a]\ndeployment = "a/b"\nkey = "{window}{x}"', "data.toml: datasets.a.key: may hold {dataset}"),
        (
            f'[datasets.a]\ndeployment = "a/b"\nkey = "{"k" * 80}{{window}}"',
            "data.toml: datasets.a.key: must be shorter",
        ),
        ('[datasets.a]\ndeployment = "a/b"\nmay_start = ["boss"]', "data.toml: datasets.a.may_start.0: "),
        ('[datasets.a]\ndeployment = "a/b"\nwindow = { every = "week" }', "data.toml: datasets.a.window.every: "),
        ('[datasets.a]\ndeployment = "a/b"\nwindow = { zone = "Mars" }', "data.toml: datasets.a.window.zone: "),
        ('[datasets.Ä]\ndeployment = "a/b"', "data.toml: "),
        ('[datasets.a]\ndeployment = "a/b"\n[jobs.a]\ndeployment = "a/b"', "data.toml: jobs.a: the name is taken"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, fault: str) -> None:
    faults = parse(text).faults
    assert len(faults) == 1 and faults[0].startswith(fault), faults


def test_the_file_is_read_again_when_it_changes_and_ours_keep_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_HOME", str(tmp_path))
    environment.cache_clear()
    assert registered.load().entries == {} == catalogue.others(), "no file, nothing registered"
    (tmp_path / "data.toml").write_text('[datasets.handbook]\ndeployment = "theirs/x"\n')
    assert catalogue.others() == {}
    (tmp_path / "data.toml").write_text(
        '[datasets.handbook]\ndeployment = "theirs/x"\n[jobs.more]\ndeployment = "a/b"\n'
    )
    assert set(catalogue.others()) == {"more"}
    environment.cache_clear()


def test_what_is_asked_is_closed_and_shows_no_secret() -> None:
    entry = parse(FINE).entries["orders"]
    schema = asked(entry, SCHEMA, {"dsn": "postgresql://u:secret@h/d", "mode": "changed"})
    assert set(schema["properties"]) == {"dsn", "password", "window", "mode"}, "what is fixed is not asked"
    assert schema["required"] == [], "what stands in the deployment, or is fixed, may be left out"
    assert schema["properties"]["mode"]["default"] == "changed", "the deployment's own default"
    assert "secret" not in str(schema) and "from-the-code" not in str(schema)
    assert schema["definitions"]["Window"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ({"colour": "red"}, ["parameters.colour"]),
        ({"region": "us"}, ["parameters.region"]),
        ({"window": {"start": "2026-02-30"}}, ["parameters.window.start"]),
        ({"window": {"start": "2026-02-28", "more": 1}}, ["parameters.window.more"]),
        ({"mode": "most"}, ["parameters.mode"]),
        ({"dsn": f"postgresql://u:{MASK}@h"}, ["parameters.dsn"]),
        ({"dsn": "x" * 600_000}, ["parameters"]),
    ],
)
def test_what_prefect_would_take_and_crash_on_is_refused(given: dict[str, Any], paths: list[str]) -> None:
    schema = asked(parse(FINE).entries["orders"], SCHEMA, {})
    with pytest.raises(InvalidParameters) as refused:
        cleaned(schema, {"dsn": "d", **given})
    assert [error["path"] for error in refused.value.errors] == paths


def test_what_is_the_default_is_not_sent_and_a_secret_is_not_kept() -> None:
    entry = parse(FINE).entries["orders"]
    sent = cleaned(asked(entry, SCHEMA, {}), {"dsn": "plain words", "mode": "full", "window": {"start": "2026-11-02"}})
    assert sent == {"dsn": "plain words", "window": {"start": "2026-11-02"}}
    given = {**sent, "password": "pw-of-the-store", "window": {"start": "2026-11-02", "token": "tk-of-the-store"}}
    kept = kept_of(given, schema=SCHEMA, secret=entry.secret)
    assert kept == {"dsn": MASK, "password": MASK, "window": {"start": "2026-11-02", "token": MASK}}
    assert set(secret_texts(given, Declared("x", "d", SCHEMA))) == {"plain words", "pw-of-the-store", "tk-of-the-store"}
