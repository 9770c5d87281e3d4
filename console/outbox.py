"""What must reach an engine, written in the same transaction as the change that causes it.

A row is delivered at least once, in no promised order; whoever receives it de-duplicates by its content.
The relay (`orchestration.relay`) claims rows, delivers them and stamps them; it is woken by NOTIFY.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from console import planned_once

CHANNEL = "signalbox_outbox"  # its messages say the kind of entry that is there, "" for any


class OutboxKind(StrEnum):
    """What an entry is. It has no members, so that whoever brings kinds of their own can derive from it."""


class Kind(OutboxKind):
    """The kinds that there are. How each is delivered stands in `orchestration.relay.deliveries`.

    The values are kept in rows, so they never change.
    """

    START_RUN = "start_run"
    DECIDED = "decided"
    ANSWER_THREAD = "answer_thread"  # of an agent on somebody else's agent server
    START_WATCH = "start_watch"
    CANCEL_RUN = "cancel_run"
    TERMINATE_RUN = "terminate_run"
    RESUME_RUN = "resume_run"  # it was paused
    RETRY_TURN = "retry_turn"  # end the wait before its next attempt
    FAIL_TURN = "fail_turn"  # for good
    FEED_BATCH = "feed_batch"
    RESTART_RUN = "restart_run"  # in a later era, from a checkpoint
    SEND_MESSAGE = "send_message"  # an operator's signal, query or update
    REMIND = "remind"  # a mail to people whom an approval waits for, or who decided what then ended
    RUN_STUCK = "run_stuck"  # a mail to operators


#: how an entry begins its life, for statements that write more than that
INSERT = "INSERT INTO console_outboxentry (kind, subject, payload, attempts, last_error)"

_ENQUEUE = f"""
WITH entry AS (
    {INSERT} VALUES (%s, %s, %s, 0, '')
    RETURNING id
)
SELECT id, pg_notify(%s, %s) FROM entry
"""


def enqueue(*, kind: OutboxKind, subject: str, payload: dict[str, Any]) -> int:
    """Add one entry and wake the relay when the current transaction commits; return the entry's id.

    `subject`: the id it is about, for people who search.
    `payload`: JSON, ids only.
    """
    with planned_once.cursor() as cursor:
        cursor.execute(_ENQUEUE, [str(kind), subject, json.dumps(payload), CHANNEL, str(kind)])
        entry_id: int = cursor.fetchone()[0]
    return entry_id


_ENQUEUE_EACH = f"""
{INSERT}
SELECT %s, one ->> 'subject', one -> 'payload', 0, '' FROM jsonb_array_elements(%s::jsonb) AS one
"""


def enqueue_each(*, kind: OutboxKind, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Add many entries of one kind in one statement; `entries`: subject and payload of each, as in `enqueue`."""
    told = [{"subject": subject, "payload": payload} for subject, payload in entries]
    with planned_once.cursor() as cursor:
        cursor.execute(_ENQUEUE_EACH, [str(kind), json.dumps(told)])
    wake()


def wake() -> None:
    """Wake the relay when the current transaction commits, for entries that were made due."""
    with planned_once.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])
