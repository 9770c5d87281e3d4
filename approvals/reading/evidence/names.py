"""What people were called when the record was written: an account can be renamed, and the record stays as it is."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import User

from approvals.models import Approval, AuditEvent

_OPENED = "approval.opened"
_SAID_BY_SOMEBODY = {"approval.decided": "decision", "approval.voted": "decision", "approval.commented": "comment"}


class NamesThen:
    """The user names of an approval's people at the record's entries about it. Two queries."""

    def __init__(self, approval: Approval, people: Iterable[User | None]) -> None:
        accounts = {f"account:{user.pk}": user.pk for user in people if user is not None}
        renamed = AuditEvent.objects.filter(subject__in=accounts, kind="account.renamed").order_by("seq")
        self._renamed: dict[int, list[tuple[int, str]]] = {}
        for subject, seq, body in renamed.values_list("subject", "seq", "body"):
            self._renamed.setdefault(accounts[subject], []).append((seq, body["before"]))
        entries = AuditEvent.objects.filter(subject=approval.pk, kind__in=[_OPENED, *_SAID_BY_SOMEBODY])
        self._opened = 0
        self._said: dict[str | int, int] = {}
        for seq, kind, body in entries.values_list("seq", "kind", "body"):
            if kind == _OPENED:
                self._opened = seq
            else:
                self._said[body[_SAID_BY_SOMEBODY[kind]]] = seq

    def when_opened(self, user: User | None) -> str | None:
        """Return what the account was called when the approval was opened."""
        return self._at(user, self._opened)

    def when_said(self, user: User | None, what: str | int | None) -> str | None:
        """Return what it was called when a decision or a comment, named by its id, was recorded."""
        return self._at(user, self._said.get(what) if what is not None else None)

    def _at(self, user: User | None, seq: int | None) -> str | None:
        if user is None:
            return None
        later = [before for at, before in self._renamed.get(user.pk, ()) if seq is not None and at > seq]
        return later[0] if later else user.username
