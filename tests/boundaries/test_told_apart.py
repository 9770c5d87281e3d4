"""What repeats on a page has a name of its own, also where outside names are alike."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.template.loader import render_to_string

from tests.landmarks import not_told_apart

TITLED = '<section aria-labelledby="{0}"><h3 id="{0}">Refreshes</h3></section>'


def test_two_of_one_name_are_seen() -> None:
    assert not_told_apart(TITLED.format("one") + TITLED.format("other")) == ["2 times region “Refreshes”"]
    assert not_told_apart(TITLED.format("one") * 2) == ["2 times region “Refreshes”", "2 times id one"]
    assert not_told_apart("<nav><br></nav><nav></nav>") == ["2 times navigation “”"]
    assert not_told_apart('<form role="search"></form><div role="search"></div>') == ["2 times search “”"]


def test_what_no_reader_lists_may_repeat() -> None:
    assert not_told_apart("<section></section><section></section><form></form><form></form>") == []
    assert not_told_apart(TITLED.format("one") + '<section aria-label="Versions"></section>') == []


def _of(**values: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"pk": "x", "at": datetime(2026, 1, 2, tzinfo=UTC), **values})


@pytest.mark.parametrize(
    ("template", "context"),
    [
        (
            "dataplane/contents/_passages.html",
            {"shown": {"items": [_of(document=name, title="Refunds", effective=None) for name in ("a.md", "b.md")]}},
        ),
        (
            "dataplane/_flow_run_work.html",
            {
                "flow_run_id": "f-1",
                "artifacts": [_of(artifact=_of(key="", kind="markdown"), percent=None) for _ in range(2)],
            },
        ),
        (
            "approvals/_done_before.html",
            {"done": [_of(is_same=False, approval=_of(pk=pk, summary="Refund 12.00")) for pk in ("apr_1", "apr_2")]},
        ),
    ],
)
def test_alike_from_outside_is_told_apart_on_the_page(template: str, context: dict[str, Any]) -> None:
    page = render_to_string(template, context)
    assert page.count("<section") >= 2 and not_told_apart(page) == []
