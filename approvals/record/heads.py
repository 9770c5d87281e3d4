"""Heads of the chain, kept where whoever owns the database cannot change them: a file, and an address if one is set.

The file is `<SIGNALBOX_HOME>/audit-heads.jsonl`, one JSON object a line, only ever appended to:
`{"seq": 812, "digest": "<hex>", "at": "<RFC 3339>"}`. The same object is posted to SIGNALBOX_AUDIT_HEAD_URL.
The relay does so once a minute when the head has moved.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from approvals.models import AuditEvent
from approvals.record.audit import Head

logger = logging.getLogger(__name__)

POST_SECONDS = 5.0


def current() -> Head | None:
    """Return the end of the chain as it is now, `None` while there is no entry.

    Its moment is one of before: whatever came later than the moment may be missing in the chain that is kept.
    """
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    newest = AuditEvent.objects.order_by("-seq").values_list("seq", "digest").first()
    return Head(newest[1], newest[0], at) if newest else None


def kept(path: Path | None = None) -> list[Head]:
    """Return the heads in the file (the state folder's when not given), oldest first; none when there is no file.

    A line that cannot be read is passed over: an append may have been cut off by a crash.
    """
    try:
        lines = (path or settings.AUDIT_HEADS_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [head for line in lines if (head := _read(line)) is not None]


def _read(line: str) -> Head | None:
    try:
        found = json.loads(line)
        return Head(str(found["digest"]), int(found["seq"]), str(found.get("at", "")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class Publisher:
    """Writes the head down wherever it is not yet; one per process, `step` by step."""

    def __init__(self) -> None:
        self._posted = ""  # digest that the address has taken

    def step(self) -> Head | None:
        """Append the head to the file and post it, each only if it has moved there; return it.

        The address may be away: that is logged and tried again with the next step. Raises OSError when the file
        cannot be written, and Django's database errors.
        """
        head = current()
        if head is None:
            return None
        self._append(head)
        if settings.AUDIT_HEAD_URL and head.digest != self._posted and _post(head):
            self._posted = head.digest
        return head

    def _append(self, head: Head) -> None:
        path: Path = settings.AUDIT_HEADS_FILE
        newest = _newest(path)
        if newest is not None and newest.digest == head.digest:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:  # one write, so that two relays never mix their lines; a cut-off line before it is closed first
            os.write(descriptor, (("" if _ends_whole(path) else "\n") + _line(head) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _line(head: Head) -> str:
    return json.dumps({"seq": head.seq, "digest": head.digest, "at": head.at})


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1024))
            return file.read()
    except FileNotFoundError:
        return b""


def _newest(path: Path) -> Head | None:
    lines = _tail(path).decode(errors="replace").splitlines()
    return _read(lines[-1]) if lines else None


def _ends_whole(path: Path) -> bool:
    tail = _tail(path)
    return not tail or tail.endswith(b"\n")


def _post(head: Head) -> bool:
    import httpx  # not before it is needed: the relay is kept light

    try:
        answer = httpx.post(
            settings.AUDIT_HEAD_URL,
            content=_line(head),
            headers={"Content-Type": "application/json"},
            timeout=POST_SECONDS,
        )
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        logger.warning("the audit head %s was not taken by its address, tried again later: %s", head.seq, exc)
        return False
    return True
