"""Who sees a flow run's parameters, and that no secret is among them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from dataplane.catalogue import CATALOGUE
from dataplane.masking import MASK, shown, without_credentials

OURS = next(iter(CATALOGUE.values())).flow


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
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
    seen = shown(parameters, flow="somebody-elses", user=ada)
    assert "hunter2" not in str(seen)
    assert seen["rows"][0]["key"] == "2026-11-28" and seen["rows"][0]["max_tokens"] == 5


def test_reviewers_see_the_names_alone_where_the_flow_is_somebody_elses(alice: User, olga: User, ada: User) -> None:
    parameters = {"folder": "a", "rows": [1, None], "on": True}
    assert shown(parameters, flow="somebody-elses", user=alice) == {
        "folder": MASK,
        "rows": [MASK, None],
        "on": MASK,
    }
    for user in (olga, ada):
        assert shown(parameters, flow="somebody-elses", user=user) == parameters
    assert shown(parameters, flow=OURS, user=alice) == parameters


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
