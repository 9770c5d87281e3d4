"""Static files are named by their content, packed, kept for ever, and there wherever the web process is started."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpResponse
from django.templatetags.static import static
from django.test import RequestFactory, override_settings
from whitenoise.middleware import WhiteNoiseMiddleware

from console import statics
from console.environment import PROJECT

pytestmark = pytest.mark.django_db  # an answer that is closed looks after the connection that an earlier test has left
NAMED = re.compile(r"\.[0-9a-f]{12}\.\w+$")
LINKED = re.compile(r"""{% static "([^"]+)" %}""")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make them once: it costs seconds."""
    root = tmp_path_factory.mktemp("state") / "static"
    with override_settings(STATIC_ROOT=root):  # which lets the storage forget afterwards what it has made
        statics.make()
    return root


@pytest.fixture
def root(made: Path, settings: Any) -> Path:
    settings.STATIC_ROOT = made
    return made


def links() -> set[str]:
    return {name for path in (PROJECT / "templates").rglob("*.html") for name in LINKED.findall(path.read_text())}


def served(address: str, **headers: str) -> HttpResponse:
    """Return the answer with its body, the file closed."""
    keeper = WhiteNoiseMiddleware(lambda request: HttpResponse(status=404))
    found = keeper(RequestFactory().get(address, headers=headers))
    whole = HttpResponse(b"".join(found), status=found.status_code, headers=dict(found.items()))
    found.close()
    return whole


def test_every_file_that_a_page_links_to_is_named_by_its_content_and_kept_for_ever(root: Path) -> None:
    assert links()
    for name in links():
        address = static(name)
        assert NAMED.search(address), address
        answer = served(address, accept_encoding="gzip")
        assert answer.status_code == 200
        assert "immutable" in answer["Cache-Control"]


def test_a_script_names_what_it_imports_by_content_too(root: Path) -> None:
    script = (root / static("js/app.js").removeprefix("/static/")).read_text()
    assert "live.js" not in script
    for name in re.findall(r"""import\s*"\./([^"]+)""", script):
        assert (root / "js" / name).is_file()


def test_what_is_text_is_sent_packed(root: Path) -> None:
    address = static("css/app.css")
    answer = served(address, accept_encoding="gzip")
    assert answer["Content-Encoding"] == "gzip"
    assert len(answer.content) < len(gzip.decompress(answer.content)) / 2
    assert "Content-Encoding" not in served(address)


def test_a_second_process_makes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("made twice")

    monkeypatch.setattr(statics, "_make", never)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.css")}
    statics.make()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.css")} == before


def test_without_made_files_pages_name_those_of_the_source(tmp_path: Path, settings: Any) -> None:
    settings.STATIC_ROOT = tmp_path
    assert static("css/app.css") == "/static/css/app.css"
    assert served("/static/css/app.css").status_code == 200


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, settings: Any) -> None:
    (tmp_path / "file").write_text("")
    settings.STATIC_ROOT = tmp_path / "file" / "static"
    statics.make()
    assert staticfiles_storage.url("css/app.css") == "/static/css/app.css"
