"""Heads of the chain kept outside of the database: a file that only grows, and an address that may be away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from approvals.record import audit, heads
from approvals.record.heads import Publisher

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path, settings: Any) -> Path:
    settings.AUDIT_HEADS_FILE = tmp_path / "state" / "audit-heads.jsonl"
    kept: Path = settings.AUDIT_HEADS_FILE
    return kept


class Notary:
    """An address that takes heads, or refuses them."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.status = 204
        notary = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if notary.status == 204:
                    notary.taken.append(json.loads(body))
                self.send_response(notary.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/heads"


@pytest.fixture
def notary(settings: Any) -> Iterator[Notary]:
    made = Notary()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    settings.AUDIT_HEAD_URL = made.url
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def happen(times: int = 1) -> None:
    for _ in range(times):
        audit.record(actor="alice", kind="test", subject="apr_1", body={})


def test_an_empty_record_has_no_head_to_write_down(file: Path) -> None:
    assert Publisher().step() is None
    assert not file.exists()


def test_the_head_is_written_down_once_for_each_move(file: Path) -> None:
    publisher = Publisher()
    happen(2)
    first = publisher.step()
    publisher.step()
    Publisher().step()  # another relay, or this one after a restart
    happen()
    second = publisher.step()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert first is not None and second is not None
    assert [(line["seq"], line["digest"]) for line in lines] == [
        (first.seq, first.digest),
        (second.seq, second.digest),
    ]
    assert all(set(line) == {"seq", "digest", "at"} for line in lines)
    assert file.stat().st_mode & 0o777 == 0o600
    assert audit.verify(heads.kept()).heads == 2


def test_a_line_that_was_cut_off_spoils_no_other(file: Path) -> None:
    happen()
    Publisher().step()
    whole = file.read_text()
    file.write_text(whole + '{"seq": 2, "dig')
    happen()
    Publisher().step()
    assert [head.seq for head in heads.kept()] == [one.seq for one in _all_heads()]


def _all_heads() -> list[audit.Head]:
    from approvals.models import AuditEvent

    return [audit.Head(digest, seq) for seq, digest in AuditEvent.objects.order_by("seq").values_list("seq", "digest")]


def test_the_address_gets_each_head_once(file: Path, notary: Notary) -> None:
    publisher = Publisher()
    happen()
    head = publisher.step()
    publisher.step()
    assert head is not None
    assert notary.taken == [{"seq": head.seq, "digest": head.digest, "at": head.at}]


def test_an_address_that_is_away_gets_the_newest_head_later(
    file: Path, notary: Notary, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher()
    notary.status = 503
    happen()
    publisher.step()
    assert notary.taken == []
    assert "was not taken by its address" in caplog.text
    assert len(heads.kept()) == 1  # the file does not wait for the address
    happen()
    notary.status = 204
    head = publisher.step()
    assert head is not None
    assert [taken["digest"] for taken in notary.taken] == [head.digest]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "not an address", "http://[::1", "ftp://x/"])
def test_an_address_that_cannot_be_right_stops_nothing(url: str, file: Path, settings: Any) -> None:
    settings.AUDIT_HEAD_URL = url
    happen()
    assert Publisher().step() is not None
    assert len(heads.kept()) == 1


def test_a_head_in_the_state_folder_is_compared_with_unasked(file: Path) -> None:
    happen(3)
    said = StringIO()
    call_command("publish_audit_head", stdout=said)
    assert said.getvalue().splitlines()[-1] == audit.verify().head
    file.write_text(file.read_text().replace(audit.verify().head, "0" * 64))
    with pytest.raises(Exception, match="not the record that was here before"):
        call_command("verify_audit", stdout=StringIO())
