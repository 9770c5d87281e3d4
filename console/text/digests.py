"""The digest of a JSON value: the same for the same value, however it was written.

Where a digest is kept from before, its own recipe stays where it is: the record's chain, what programs asked, the
content of a dataset's version.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rfc8785


def digest_of_json(value: Any) -> str:
    """Return the SHA-256, hex, of the value's RFC 8785 form. Raises rfc8785.CanonicalizationError without one."""
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()


def digest_of_drawn(value: Any) -> str:
    """Return a digest of a JSON value that a page draws, with whatever number and text: it is compared, never kept."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
