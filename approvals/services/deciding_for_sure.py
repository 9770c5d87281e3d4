"""Decide, and find out whether the decision was recorded even if the connection breaks at COMMIT.

A connection that is lost at COMMIT leaves open whether the server took it. It can be found out: the transaction holds
the approval's row until it has ended one way or the other, so whoever waits for the row reads what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import User
from django.db import connection, transaction

from approvals.errors import NotKnown, NotRecorded
from approvals.models import Approval, Decision
from approvals.services.deciding import BY_TOKEN, Answer, Circumstances, ClosedApproval, take
from console.database import AWAY

WAIT: Final = "3s"  # for the row; PostgreSQL ends a session that idles inside a transaction after 10 s


@dataclass(frozen=True)
class Recorded:
    """A decision that is recorded; `was_cut_off`: the connection broke, and it was found out afterwards.

    `closed`: the approval as the decision left it; `None` where it has to be read.
    """

    decision: Decision
    was_cut_off: bool
    closed: ClosedApproval | None = None


def decide_for_sure(
    *, approval_id: str, reviewer: User, given: Answer, circumstances: Circumstances = BY_TOKEN
) -> Recorded:
    """Decide, as `take` does, and find out what became of it should the connection to the database break.

    Besides, raises NotRecorded when it was not recorded, and NotKnown while that cannot be found out.
    """
    try:
        taken = take(approval_id=approval_id, reviewer=reviewer, given=given, circumstances=circumstances)
    except AWAY as exc:
        body_digest = given.fingerprint(approval_id)
        earlier = find_recorded(
            approval_id=approval_id, reviewer=reviewer, key=given.idempotency_key, body_digest=body_digest
        )
        if earlier is None:
            raise NotRecorded(NotRecorded.__doc__) from exc
        return Recorded(earlier, was_cut_off=True)
    return Recorded(taken.decision, was_cut_off=False, closed=taken.closed)


def find_recorded(*, approval_id: str, reviewer: User, key: str, body_digest: str = "") -> Decision | None:
    """Return the person's decision under the form's key, or with the same body where there is no key.

    Waits until nobody is about to record one. Raises NotKnown while the database is away or too slow.
    """
    try:
        if not connection.in_atomic_block:
            connection.close()  # it may be the broken one
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [WAIT])
            held = Approval.objects.select_for_update(no_key=True, of=("self",)).filter(pk=approval_id)
            held.values_list("pk").first()
            mine = Decision.objects.select_related("by", "on_behalf_of").filter(approval_id=approval_id, by=reviewer)
            return (mine.filter(idempotency_key=key) if key else mine.filter(body_digest=body_digest)).first()
    except AWAY as exc:
        raise NotKnown(NotKnown.__doc__) from exc
