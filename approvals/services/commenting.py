"""Say something about an approval to the other people. The agent never gets it."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import InvalidChange, NoSuchApproval
from approvals.models import Comment
from approvals.people.permissions import visible_to
from approvals.record import audit
from console.clock import DatabaseNow
from console.live.announce import announce
from console.text.stored import text_fault

COMMENT_LIMIT: Final = 4000  # characters
REPEATED_WITHIN: Final = timedelta(minutes=1)  # the same words again are a second click


def comment(*, approval_id: str, by: User, text: str) -> Comment:
    """Add a comment, to an open or a closed approval. The same words again within a minute are the same comment.

    `text`: plain text, 1 to COMMENT_LIMIT characters. Raises NoSuchApproval, InvalidChange.
    """
    text = text.strip()
    _check(text)
    with transaction.atomic():
        approval = visible_to(by).select_for_update(no_key=True, of=("self",)).only("pk").filter(pk=approval_id).first()
        if approval is None:
            raise NoSuchApproval
        mine = approval.comments.filter(by=by, at__gt=DatabaseNow() - REPEATED_WITHIN)
        repeated = mine.filter(text=text).first()
        if repeated is not None:
            return repeated
        said = Comment.objects.create(approval=approval, by=by, text=text)
        announce(f"approval:{approval.pk}")
        body = {"comment": said.pk, "digest": hashlib.sha256(text.encode()).hexdigest()}
        audit.record(actor=by.username, kind="approval.commented", subject=approval.pk, body=body)
    return said


def _check(text: str) -> None:
    if not text:
        raise InvalidChange("text", "Say something first.")
    if fault := text_fault(text, COMMENT_LIMIT):
        raise InvalidChange("text", fault)
