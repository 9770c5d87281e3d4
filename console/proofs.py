"""When somebody proved who they are, by the database's clock.

allauth notes it in the session by the clock of the process that took the password. It is compared with the database's
time, perhaps by another process, so a clock that is wrong would make a sign-in recent for hours, or never.
"""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from django.http import HttpRequest

from console.clock import database_now


def note_time(request: HttpRequest, **_: Any) -> None:
    """Put the database's time in place of the process's own, on the proof that was just noted."""
    *earlier, newest = request.session[AUTHENTICATION_METHODS_SESSION_KEY]
    request.session[AUTHENTICATION_METHODS_SESSION_KEY] = [*earlier, newest | {"at": database_now().timestamp()}]
