"""When a page showed a version of a request to a person first: a signed note that travels with the decision form.

It says who saw what and when, so that a page can neither claim a longer look than it was nor lend it to another
request, version or person. A page that refreshes itself hands its note back and keeps the first moment.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.contrib.auth.models import User
from django.core import signing

from approvals.models import Approval

_SALT = "approvals.shown"
_LONGEST = 7 * 24 * 3600  # seconds; longer than any page stays open for a reason


def note_shown(approval: Approval, user: User, earlier: str = "") -> str:
    """Return the note for a page that is being rendered; `earlier` is the one that the page had before."""
    if earlier and shown_at(earlier, approval.pk, approval.version, user) is not None:
        return earlier
    return signing.dumps([approval.pk, approval.version, user.pk, datetime.now(UTC).timestamp()], salt=_SALT)


def shown_at(note: str, approval_id: str, version: int, user: User) -> datetime | None:
    """Return when the version was first shown to the person; `None` for a note that is none, or about another."""
    try:
        *about, at = signing.loads(note, salt=_SALT, max_age=_LONGEST)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    if about != [approval_id, version, user.pk]:
        return None
    return datetime.fromtimestamp(at, UTC)
