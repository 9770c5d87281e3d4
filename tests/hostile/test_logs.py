# ruff: noqa: RUF001
"""A log line tells what was logged, on one line, whoever wrote the values."""

from __future__ import annotations

import io
import logging
import logging.config
from typing import Any

import pytest
import structlog
from django.conf import settings

from console.text.log_lines import VisibleFormatter

from .corpus import CORPUS, Hostile

LOGGING: dict[str, Any] = settings.LOGGING
SHORT = [hostile for hostile in CORPUS if len(hostile.text) < 4000]


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(written: io.StringIO) -> logging.Logger:
    """A logger of its own that writes as the settings' handler does."""
    formatters = LOGGING["formatters"]
    made = logging.config.DictConfigurator({"version": 1}).configure_formatter(dict(formatters["plain"]))
    handler = logging.StreamHandler(written)
    handler.setFormatter(made)
    log = logging.Logger("hostile")
    log.addHandler(handler)
    return log


def test_the_settings_write_visible_lines() -> None:
    for name, handler in LOGGING["handlers"].items():
        formatter = LOGGING["formatters"][handler["formatter"]]
        assert formatter["()"] == f"{VisibleFormatter.__module__}.{VisibleFormatter.__name__}", name


def test_every_text_is_one_line_and_hides_nothing(log: logging.Logger, written: io.StringIO) -> None:
    faults = []
    for hostile in SHORT:
        written.seek(0)
        written.truncate()
        log.warning("refused: %s", hostile.text)
        line = written.getvalue()
        faults += _faults(hostile, line)
    assert faults == []


def _faults(hostile: Hostile, line: str) -> list[str]:
    faults = [f"{hostile.name} lacks {part!r}" for part in hostile.shows if part.replace("\n", "⟨U+000A⟩") not in line]
    if line.count("\n") != 1 or len(line.splitlines()) != 1:
        faults.append(f"{hostile.name} is more than one line")
    faults += [f"{hostile.name} left {char!r}" for char in hostile.hides if char in line]
    return faults


def test_an_exception_forges_no_line(log: logging.Logger, written: io.StringIO) -> None:
    try:
        raise ValueError("bad\n2026-11-24 12:00:00,000 INFO approvals approved by alice\x1b[2J")
    except ValueError:
        log.exception("it failed")
    first, *rest = written.getvalue().splitlines()
    assert "it failed" in first and rest
    assert all(line.startswith("  | ") for line in rest)
    assert "⟨U+001B⟩[2J" in written.getvalue()


def test_a_structured_event_is_visible_too(log: logging.Logger, written: io.StringIO) -> None:
    event = {"event": "request \u202e started", "user_agent": "a\nINFO forged \x1b[2J pаypal"}
    for processor in structlog.get_config()["processors"][1:]:
        event = processor(log, "info", event)
    log.info(event)
    [line] = written.getvalue().splitlines()
    assert "\u202e" not in line and "\x1b" not in line and "p⟨U+0430⟩ypal" in line


def test_a_handler_before_ours_forges_no_line(log: logging.Logger, written: io.StringIO) -> None:
    log.handlers.insert(0, logging.StreamHandler(io.StringIO()))
    try:
        raise ValueError("bad\nINFO forged")
    except ValueError:
        log.exception("it failed")
    assert "\nINFO" not in written.getvalue()
