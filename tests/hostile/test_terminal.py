"""What a command writes to a terminal moves no cursor and forges no line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from approvals.reading.evidence import pack

from .conftest import hidden, not_shown
from .corpus import CORPUS, Hostile


def flat(hostile: Hostile) -> Hostile:
    """Return the text as it must look on one line."""
    shows = tuple(part.replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩") for part in hostile.shows)
    return Hostile(hostile.name, hostile.text, shows, hostile.hides)


def test_what_is_missing_from_evidence_is_told_on_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def export(about: str, path: Path) -> Any:
        missing = [{"what": hostile.name, "why": hostile.text} for hostile in CORPUS]
        return SimpleNamespace(missing=missing, files=3, digest="0" * 64)

    monkeypatch.setattr(pack, "export", export)
    call_command("export_evidence", "apr_1", output=tmp_path / "pack.zip")
    lines = capsys.readouterr().out.split("\n")
    faults = []
    for hostile, line in zip(CORPUS, lines, strict=False):
        assert line.startswith(f"Not in it: {hostile.name}. ")
        faults += not_shown(flat(hostile), line) + hidden(hostile, line)
    assert faults == []


def test_the_names_of_users_are_told_on_one_line(db: None) -> None:
    short = [hostile for hostile in CORPUS if len(hostile.text) <= 150][:15]
    for hostile in short:
        User.objects.create(username=hostile.text)
    with pytest.raises(CommandError) as refused:
        call_command("create_token", "nobody\x1b[2J")
    told = str(refused.value)
    assert "\n" not in told and "\x1b" not in told
    assert [fault for hostile in short for fault in not_shown(flat(hostile), told) + hidden(hostile, told)] == []
