"""Sessions, kept in the database. What no session of ours can be called is nobody's, at pages and sockets alike.

A cookie holds whatever its sender likes, NUL too, which PostgreSQL takes in no text.
"""

from __future__ import annotations

import re
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseStore

_KEY = re.compile("[0-9a-z]{8,40}")  # django_session's column takes 40


class SessionStore(DatabaseStore):
    """Django's own, which asks the table for no name that cannot be in it."""

    def _validate_session_key(self, key: Any) -> bool:
        return isinstance(key, str) and _KEY.fullmatch(key) is not None
