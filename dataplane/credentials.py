"""Texts of somebody else's, such as an error or a line of a log, without the credentials in them. Pure.

Every repetition is bounded, so that no text, however made, takes more than linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dataplane.secret_fields import MASK

_NAME = r"[\w-]{0,40}(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)"
_VALUE = r"""(?:"(?:[^"\\]|\\.){0,2000}"|'(?:[^'\\]|\\.){0,2000}'|["']?[^\s,;&"')}\]]+)"""
#: `password=hunter2` of a connection's text, `"api_key": "hunter2"` of JSON; not the sentence "token: expired"
_NAMED = re.compile(rf"""(?i)(?P<name>\b{_NAME}(?:\s{{0,9}}=\s{{0,9}}|["']\s{{0,9}}:\s{{0,9}})){_VALUE}""")
_IN_ADDRESS = re.compile(r"(?P<before>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s/@:]*:)[^\s/@]+(?=@)")
_LOOKS_SECRET = re.compile(
    r"(?i)bearer\s+\S+|\bsb_[\w-]{40,}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
)


def without_credentials(text: str) -> str:
    """Return a text of somebody else's, such as an error, with passwords and keys masked."""
    shown = _IN_ADDRESS.sub(rf"\g<before>{MASK}", text)
    return _LOOKS_SECRET.sub(MASK, _NAMED.sub(rf"\g<name>{MASK}", shown))


def input_without_credentials(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a version was made from, `{"dataset", "version"}` or `{"asset"}`, with the asset's key masked so."""
    return {**one, "asset": without_credentials(str(one["asset"]))} if "asset" in one else dict(one)
