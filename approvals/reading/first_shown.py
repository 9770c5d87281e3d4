"""When a version of a request was shown to a person first: a signed note that travels with the decision.

It says who saw what and when, so that nobody can claim a longer look than it was, nor lend it to another request,
version or person. A page that refreshes itself hands its note back and keeps the first moment; the API gives the note
as `shown` and takes it back with the decision. Its time is the database's, as the time that it is compared with.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib.auth.models import User
from django.core import signing

from approvals.models import Approval
from console.clock import database_now

_SALT = "approvals.shown"


def note_shown(approval: Approval, user: User, earlier: str = "") -> str:
    """Return the note for what is being shown; `earlier` is the one that the page had before.

    `requests.approval_for` reads the time with the approval; else it takes a query.
    """
    if earlier and shown_at(earlier, approval.pk, approval.version, user) is not None:
        return earlier
    at: datetime = getattr(approval, "read_at", None) or database_now()
    return signing.dumps([approval.pk, approval.version, user.pk, at.timestamp()], salt=_SALT)


def shown_at(note: str, approval_id: str, version: int, user: User) -> datetime | None:
    """Return when the version was first shown to the person; `None` for a note that is none, or about another."""
    try:
        *about, at = signing.loads(note, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    if about != [approval_id, version, user.pk]:
        return None
    return datetime.fromtimestamp(at, UTC)
