"""How far the record was checked as a whole, and when: kept beside the heads, where the database cannot reach it.

The file is `<SIGNALBOX_HOME>/audit-heads.checked`, signed with the secret key. What cannot be read was never checked.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core.signing import BadSignature, Signer

from approvals.record.audit import WholeCheck

_SIGNER: Final = "signalbox.record.checked"


def last() -> WholeCheck | None:
    """Return what the last check of the whole has found, `None` when there was none."""
    try:
        return WholeCheck(**Signer(salt=_SIGNER).unsign_object(_path().read_text()))
    except (OSError, BadSignature, ValueError, TypeError):
        return None


def note(found: WholeCheck) -> None:
    """Keep it. Raises OSError."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.write_text(Signer(salt=_SIGNER).sign_object(asdict(found)))
    written.chmod(0o600)
    written.replace(path)


def _path() -> Path:
    return Path(settings.AUDIT_HEADS_FILE).with_suffix(".checked")
