"""The statements of a decision, by hand: they stand in the path of every click, and people wait for all of them.

1. `decided_under` looks whether it is a repetition, where there is a key to tell by. 2. `hold` locks the approval's row
and reads it. 3. `people_around` reads votes and people. 4. `write` does all that a decision changes. What may happen
between them stands in `deciding`, the entry of the record in `record.audit`.

The third is a statement of its own on purpose: one that waits for a lock reads what was there before it waited, so
that a vote that came meanwhile would be missed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User

from approvals.models import Approval, Decision, ReceiptStep
from approvals.people.permissions import PeopleAround
from approvals.record.audit import HOLD_CHAIN
from console import outbox, planned_once, roles
from console.live import announce as live
from console.outbox import Kind
from console.plain_rows import Rows

_APPROVALS: Final = Rows(Approval, but_for=("search_words", "deciders"))  # what only lists look at
_DECISIONS: Final = Rows(Decision)
_PEOPLE: Final = Rows(User, only=("id", "username", "email", "is_active", "is_superuser"))


@dataclass(frozen=True)
class HeldApproval:
    """An approval whose row is locked until the transaction ends."""

    approval: Approval
    now: datetime  # the database's time, the same all through the transaction
    is_late: bool


_HOLD = f"""
SELECT {_APPROVALS.columns("a")}, signalbox_now(), a.due_at <= signalbox_now()
FROM approvals_approval a WHERE a.id = %s FOR NO KEY UPDATE
"""


def hold(approval_id: str) -> HeldApproval | None:
    """Lock the approval and read it; `None` when there is none. Part of a caller's transaction."""
    with planned_once.cursor() as cursor:
        cursor.execute(_HOLD, [approval_id])
        found = cursor.fetchone()
    if found is None:
        return None
    *row, now, is_late = found
    return HeldApproval(_APPROVALS.read(row), now, is_late)


_UNDER_KEY = f"""
SELECT {_DECISIONS.columns("d")} FROM approvals_decision d
WHERE d.by_id = %s AND d.idempotency_key = %s AND d.idempotency_key <> ''
"""


def decided_under(key: str, reviewer: User) -> Decision | None:
    """Return what the person decided under an idempotency key, `None` when nothing was."""
    with planned_once.cursor() as cursor:
        cursor.execute(_UNDER_KEY, [reviewer.pk, key])
        found = cursor.fetchone()
    return _DECISIONS.read(found) if found else None


_AROUND = f"""
WITH votes AS (
    SELECT * FROM approvals_decision WHERE approval_id = %(approval)s
), people AS (
    SELECT id FROM auth_user WHERE id = ANY(%(people)s)
    UNION SELECT id FROM auth_user WHERE username = ANY(%(owners)s)
    UNION SELECT by_id FROM votes
    UNION SELECT on_behalf_of_id FROM votes
)
SELECT coalesce((SELECT json_agg({_DECISIONS.json("votes")} ORDER BY votes.number) FROM votes), '[]')::text,
       coalesce((SELECT json_agg(json_build_array(
            {_PEOPLE.json("u")},
            (SELECT person FROM approvals_accountperson WHERE user_id = u.id),
            ARRAY(SELECT g.name FROM auth_group g JOIN auth_user_groups m ON m.group_id = g.id WHERE m.user_id = u.id)
        )) FROM auth_user u JOIN people ON people.id = u.id), '[]')::text
"""


def people_around(approval: Approval, reviewer: User) -> tuple[User, PeopleAround]:
    """Read who has voted and who else matters to the approval, and keep who asked for it with the approval.

    Call it with the approval's row held: then no vote is missed. Returns the reviewer as they are now, too.
    """
    owners = list(approval.agent_owners)
    asked: dict[str, Any] = {
        "approval": approval.pk,
        "people": [pk for pk in (reviewer.pk, approval.requested_by_id) if pk is not None],
        "owners": owners,
    }
    with planned_once.cursor() as cursor:
        cursor.execute(_AROUND, asked)
        votes, people = (json.loads(text) for text in cursor.fetchone())
    users: dict[int, User] = {}
    links: dict[int, str | None] = {}
    for found, link, groups in people:
        user = _PEOPLE.read_json(found)
        roles.keep_roles(user, groups)
        users[user.pk], links[user.pk] = user, link
    if approval.requested_by_id is not None:
        approval.requested_by = users[approval.requested_by_id]
    asking = users.get(reviewer.pk, reviewer)
    asking.is_active = asking.is_active and reviewer.is_active  # whoever called may know more
    return asking, PeopleAround(
        decisions=[_voted(found, users) for found in votes],
        owners=[user for user in users.values() if user.username in owners],
        links=links,
    )


def _voted(found: dict[str, Any], users: dict[int, User]) -> Decision:
    decision = _DECISIONS.read_json(found)
    decision.by = users[decision.by_id] if decision.by_id is not None else None
    decision.on_behalf_of = users[decision.on_behalf_of_id] if decision.on_behalf_of_id is not None else None
    return decision


#: what a decision's row gets; `number` is given by the table's trigger
DECISION_COLUMNS: Final = (
    *("id", "approval_id", "by_id", "on_behalf_of_id", "source", "verdict", "note", "version", "digest"),
    *("for_version", "for_digest", "edited_arguments", "answer", "channel", "dwell_ms", "idempotency_key"),
    *("body_digest", "number"),
)
RECEIPT_COLUMNS: Final = ("approval_id", "step", "detail", "at")

# The record's chain is held last, when nothing of this can wait for anybody any more.
_WRITE = f"""
WITH decided AS (
    INSERT INTO approvals_decision ({", ".join(DECISION_COLUMNS)}, at)
    VALUES ({", ".join(f"%({name})s" for name in DECISION_COLUMNS)}, signalbox_now())
    RETURNING number, at
), closed AS (
    UPDATE approvals_approval SET
        status = 'decided', closed_at = signalbox_now(), claimed_by_id = NULL, claimed_at = NULL,
        expected_by = CASE WHEN is_seeded THEN NULL ELSE signalbox_now() + %(heard_within)s END
    WHERE id = %(approval_id)s AND status = 'pending' AND %(closes)s
    RETURNING id
), receipt AS (
    INSERT INTO approvals_receiptstep ({", ".join(RECEIPT_COLUMNS)})
    SELECT id, 'recorded', '', signalbox_now() FROM closed
    RETURNING id
), sent AS (
    {outbox.INSERT} SELECT %(kind)s, %(run_id)s, %(payload)s::jsonb, 0, '' FROM closed WHERE %(is_sent)s
)
SELECT decided.number, decided.at, (SELECT id FROM receipt),
       pg_notify(told.channel, told.message), {HOLD_CHAIN}
FROM decided CROSS JOIN unnest(%(channels)s::text[], %(messages)s::text[]) AS told (channel, message)
"""


def write(
    approval: Approval, decision: Decision, *, closes: bool, heard_within: timedelta
) -> Callable[[], ReceiptStep | None]:
    """Write the decision and, where it `closes` the approval, all that follows.

    Returns what reads the answer: call it once, at the latest before the connection goes back. It brings the
    decision's number and moment, and returns the receipt's first step, `None` for a vote that is not enough.

    Besides the two rows: the receipt, the outbox entry that tells the run, and what pages and the relay are told at
    commit. Nobody waits for a seeded request. The caller holds the approval's row, and records it next: the chain is
    held from here on. `heard_within`: how long the run may take to hear of it. Raises IntegrityError where the person
    has voted already, or the key is taken; inside of `planned_once.in_one_go` at the end of that.
    """
    is_sent = closes and not approval.is_seeded
    kind = Kind.ANSWER_THREAD if approval.agent_server else Kind.DECIDED
    topics = ("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
    told = [(live.CHANNEL, live.message(topic)) for topic in topics]
    if is_sent:
        told.append((outbox.CHANNEL, str(kind)))
    payload = {"run_id": approval.run_id, "approval_id": approval.pk, "decision_id": decision.pk}
    values: dict[str, Any] = {
        **{name: getattr(decision, name) for name in DECISION_COLUMNS},
        "edited_arguments": _json(decision.edited_arguments),
        "answer": _json(decision.answer),
        "closes": closes,
        "heard_within": heard_within,
        "is_sent": is_sent,
        "kind": str(kind),
        "run_id": approval.run_id,
        "payload": json.dumps(payload),
        "channels": [channel for channel, _ in told],
        "messages": [message for _, message in told],
    }
    cursor = planned_once.cursor()
    cursor.execute(_WRITE, values)

    def written() -> ReceiptStep | None:
        with cursor:
            decision.number, decision.at, receipt_id, *_ = cursor.fetchone()
        decision._state.adding = False
        if not closes:
            return None
        # For whoever goes on with this object; the database's time is the same all through a transaction.
        approval.status, approval.closed_at = Approval.Status.DECIDED, decision.at
        return ReceiptStep(id=receipt_id, approval=approval, step=ReceiptStep.Step.RECORDED, detail="", at=decision.at)

    return written


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
