"""Every address that a browser opens by itself is a whole page, or leads to one; what a script gets is a part."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from approvals.models import Approval
from dataplane.catalogue import CATALOGUE
from tests.approvals.conftest import open_one
from tests.boundaries.test_permission_matrix import PAGES, addresses, filled

__all__ = ["open_one"]
BY_SCRIPT = {"HX-Request": "true"}
#: answers that are no pages: a file, and what the palette's script reads
FILES = {"approvals:export", "console:search"}
OPENED = sorted((name, path) for name, path in addresses() if PAGES[name][0] is not None and name not in FILES)


@pytest.fixture
def browser(ada: User) -> Client:
    ada.is_superuser = False
    client = Client()
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _of_something(path: str, approval: Approval) -> str:
    """Fill the path with what exists, where that costs nothing."""
    path = path.replace("<id:approval_id>", approval.pk).replace("<slug:dataset>", next(iter(CATALOGUE)))
    return filled(path)


def _body(response: Any) -> str:
    return str(response.content.decode()).strip().lower()


@pytest.mark.parametrize(("name", "path"), OPENED)
def test_an_address_that_is_opened_directly_is_a_whole_page(
    name: str, path: str, browser: Client, open_one: Any
) -> None:
    response = browser.get(_of_something(path, open_one()), follow=True)
    assert response.status_code in (200, 404, 503)
    assert _body(response).startswith("<!doctype html>") and _body(response).endswith("</html>")


@pytest.mark.parametrize(("name", "path"), OPENED)
def test_an_answer_that_depends_on_who_asks_says_so(name: str, path: str, browser: Client, open_one: Any) -> None:
    path = _of_something(path, open_one())
    page, part = browser.get(path), browser.get(path, headers=BY_SCRIPT)
    if (page.status_code, _body(page)[:15]) != (part.status_code, _body(part)[:15]):
        assert "HX-Request" in page["Vary"] and "HX-Request" in part["Vary"]
