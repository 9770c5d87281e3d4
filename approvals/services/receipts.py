"""Note how far a decision has travelled, and from when on its next step is late.

The steps are the truth. Two columns of the approval follow from them, in the same statement: `took_effect_at`, and
`expected_by`, from which on the decision stands in the lane of `approvals.reading.stalled`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Least

from approvals.errors import InvalidChange, NoSuchApproval, NothingToRedrive, NotTheirs
from approvals.models import Approval, ReceiptStep
from approvals.people.permissions import may_redrive
from approvals.record import audit
from approvals.record.closings import CLOSING_VERDICT
from console import planned_once
from console.clock import DatabaseNow, database_now
from console.live.announce import CHANNEL, announce, message
from console.text.stored import text_fault

Step = ReceiptStep.Step

#: after each step, how long the next one may take
WITHIN: Final = {
    Step.RECORDED: timedelta(seconds=30),
    Step.SIGNALLED: timedelta(seconds=60),
    Step.RESUMED: timedelta(seconds=60),
    Step.EFFECT_STARTED: timedelta(seconds=60),  # beyond the tool's own time
}
#: how long a program may take to fetch its answer, and then to say what came of it
FETCHED_WITHIN: Final = timedelta(minutes=10)
REPORTED_WITHIN: Final = timedelta(hours=1)
NOTHING_TO_COME = timedelta(0)
REASON_LIMIT = 400  # characters
_ORDER = [Step.RECORDED, Step.SIGNALLED, Step.RESUMED, Step.REFUSED, Step.EFFECT_STARTED, Step.EFFECT_FINISHED]

# One statement, for it stands in the path of every click; who shares an approval with another part holds its row in a
# statement before. A step that was noted before moves nothing, and neither does
# one that comes after a later one: the relay may stamp `signalled` when the run has long resumed. A run goes on when
# all places of an interrupt are settled, so a decision that it was told of is not late before the others are due.
_NOTING = """
held AS (
    SELECT id FROM approvals_approval WHERE id = ANY({ids}) ORDER BY id FOR NO KEY UPDATE
), noted AS (
    INSERT INTO approvals_receiptstep (approval_id, step, detail, at)
    SELECT id, %(step)s::text, %(detail)s::text, signalbox_now() FROM held
    ON CONFLICT (approval_id, step) DO NOTHING
    RETURNING approval_id
), weighed AS (
    SELECT a.id, %(is_done)s OR %(step)s::text = 'resumed' AND (
        a.status <> 'decided' OR a.kind <> 'action' OR NOT a.is_tracked
        OR a.source = 'program' AND coalesce(a.asked -> 'reports', 'false') <> 'true'
        OR {closing_verdict} IN ('reject', 'respond')
    ) AS took_effect
    FROM approvals_approval a JOIN noted ON noted.approval_id = a.id
), moved AS (
    UPDATE approvals_approval a SET
        took_effect_at = CASE WHEN weighed.took_effect THEN signalbox_now() END,
        expected_by = CASE WHEN weighed.took_effect OR a.expected_by IS NULL THEN NULL
                           ELSE %(within)s + GREATEST(signalbox_now(), (
                               SELECT max(other.due_at) FROM approvals_approval other
                               WHERE %(step)s::text = 'signalled' AND other.run_id = a.run_id
                                 AND other.status = 'pending' AND other.interrupt_id = a.interrupt_id
                                 AND other.interrupt_id <> ''
                           )) END
    FROM weighed
    WHERE a.id = weighed.id AND a.took_effect_at IS NULL AND NOT EXISTS (
        SELECT FROM approvals_receiptstep s WHERE s.approval_id = a.id AND s.step = ANY(%(later)s)
    )
)"""
_NOTE = f"""
WITH {_NOTING.format(ids="%(ids)s", closing_verdict=CLOSING_VERDICT)}
SELECT pg_notify(%(channel)s, message) FROM unnest(%(messages)s::text[]) AS message
"""


_HOLD = "SELECT id FROM approvals_approval WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"


def hold_receipts(approval_ids: list[str]) -> None:
    """Hold approvals whose next step somebody else may be noting, so that `note_receipt` sees it.

    Part of a caller's transaction. A statement that waits for a row reads all others as they were before.
    """
    with planned_once.cursor() as cursor:
        cursor.execute(_HOLD, [approval_ids])


def hold_all(approval_ids: Collection[str]) -> None:
    """Hold approvals that the caller's transaction changes one after the other, before the first change is recorded.

    Who holds the record's chain keeps everybody waiting, so it may not wait itself for a row that somebody else has.
    """
    rows = Approval.objects.select_for_update(no_key=True).filter(pk__in=approval_ids).order_by("pk")
    list(rows.values_list("pk", flat=True))


def note_receipt(
    *,
    approval_ids: list[str],
    step: str,
    detail: str = "",
    topics: tuple[str, ...] = (),
    within: timedelta | None = None,
    is_done: bool = False,
) -> None:
    """Note how far the decisions have travelled; a step is noted once, repetitions change nothing.

    `topics`: what the caller announces besides the approvals, in the same statement. `within`: how long the next step
    may take, where it is not as usual. `is_done`: the effect has happened. An answer that causes no effect of the
    ledger's has taken effect when the run or the program has it, which is the step `resumed`; but for a program that
    will say what came of it.
    """
    messages = [message(topic) for topic in (*topics, *(f"approval:{one}" for one in approval_ids))]
    asked = noting_values(step, detail=detail, within=within, is_done=is_done)
    with planned_once.cursor() as cursor:
        cursor.execute(_NOTE, asked | {"ids": approval_ids, "channel": CHANNEL, "messages": messages})


def noting(ids: str) -> str:
    """Return what `note_receipt` writes as parts of a WITH, for a statement of the hot path that does more than that.

    `ids`: the SQL expression of the approvals' ids, an array. The statement takes `noting_values`, announces by itself,
    and may not call a part of its own `held`, `noted`, `weighed` or `moved`.
    """
    return _NOTING.format(ids=ids, closing_verdict=CLOSING_VERDICT)


def noting_values(
    step: str, *, detail: str = "", within: timedelta | None = None, is_done: bool = False
) -> dict[str, Any]:
    """Return the values that `noting` takes."""
    return {
        "step": str(step),
        "detail": detail[:500],
        "within": WITHIN.get(Step(step), NOTHING_TO_COME) if within is None else within,
        "is_done": is_done,
        "later": [str(later) for later in _ORDER[_ORDER.index(Step(step)) + 1 :]],
    }


def note_effect(
    *, approval_id: str, event: str, detail: str = "", within: timedelta = NOTHING_TO_COME, actor: str = "worker"
) -> None:
    """Note what became of an approved effect, on the receipt and in the record.

    `event`: started, done, failed, refused or unknown. `within`, for `started`: how long the tool may take. An unknown
    outcome has no step of its own, for nobody saw one.
    """
    with transaction.atomic(savepoint=False):
        if event == "unknown":
            _stand_still(approval_id)
        # Nobody may write on receipts by asking for effects.
        is_a_step = event != "unknown" and (event != "refused" or _is_on_its_way(approval_id))
        kind = "effect.finished" if event in ("done", "failed") else f"effect.{event}"
        with planned_once.in_one_go():
            if is_a_step:
                note_receipt(
                    approval_ids=[approval_id],
                    step=_STEPS[event],
                    detail=detail,
                    topics=("inbox",) if event in ("failed", "refused") else (),  # it stands in the lane at once
                    within=within + WITHIN[Step.EFFECT_STARTED] if event == "started" else NOTHING_TO_COME,
                    is_done=event == "done",
                )
            audit.record(actor=actor, kind=kind, subject=approval_id, body={"detail": detail[:500]})


def note_not_taken(*, approval_id: str, detail: str) -> None:
    """Note that what was decided was not given to the agent, for it held something else: it stands in the lane at once.

    Nothing is noted of what ended without a decision, or has begun; what was set aside stays so. On retry: noted once.
    """
    with transaction.atomic(savepoint=False):
        approval = Approval.objects.select_for_update(no_key=True, of=("self",)).get(pk=approval_id)
        steps = set(approval.receipt.values_list("step", flat=True))
        if approval.status != Approval.Status.DECIDED or steps & {Step.REFUSED, Step.EFFECT_STARTED}:
            return
        ReceiptStep.objects.create(approval=approval, step=Step.REFUSED, detail=detail[:500])
        # An answer that causes no effect of the ledger's had counted as taken when its turn began.
        late = None if Step.SET_ASIDE in steps else DatabaseNow()
        Approval.objects.filter(pk=approval_id).update(took_effect_at=None, expected_by=late)
        announce("inbox", f"approval:{approval_id}")
        audit.record(actor="worker", kind="effect.refused", subject=approval_id, body={"detail": detail[:500]})


_STEPS = {
    "started": Step.EFFECT_STARTED,
    "done": Step.EFFECT_FINISHED,
    "failed": Step.EFFECT_FINISHED,
    "refused": Step.REFUSED,
}


def _is_on_its_way(approval_id: str) -> bool:
    return Approval.objects.filter(pk=approval_id, status="decided", took_effect_at=None).exists()


def stand_still(run_id: str) -> None:
    """Let what was decided of a run that is over stand in the lane at once: nothing more comes by itself.

    But for effects that have begun: their tools may still be at it.
    """
    waiting = Approval.objects.filter(run_id=run_id, took_effect_at=None, expected_by__gt=DatabaseNow())
    waiting = waiting.exclude(receipt__step=Step.EFFECT_STARTED)
    ids = list(waiting.values_list("pk", flat=True))
    if ids:
        Approval.objects.filter(pk__in=ids).update(expected_by=DatabaseNow())
        announce("inbox", *(f"approval:{approval_id}" for approval_id in ids))


def _stand_still(approval_id: str) -> None:
    """Let the decision stand in the lane from now on: nothing more comes by itself."""
    waiting = Approval.objects.filter(pk=approval_id, expected_by__isnull=False)
    waiting.update(expected_by=Least("expected_by", DatabaseNow()))
    announce("inbox", f"approval:{approval_id}")


def set_aside(*, approval_id: str, by: User, reason: str) -> None:
    """Take a decision that did not take effect out of the lane, with a reason. A second call changes nothing.

    It takes nothing back: whatever the run still does is done and noted all the same. What comes back to the lane with
    news is set aside again: the receipt keeps the first reason, the record each. Raises NoSuchApproval, NotTheirs,
    InvalidChange without a reason, NothingToRedrive when it is not late.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        approval = locked_for_redrive(approval_id, by)
        is_aside = approval.receipt.filter(step=Step.SET_ASIDE).exists()
        if is_aside and approval.expected_by is None:
            return
        check_late(approval)
        if not is_aside:
            approval.receipt.create(step=Step.SET_ASIDE, detail=f"{by.username}: {reason}"[:500])
        Approval.objects.filter(pk=approval.pk).update(expected_by=None)
        announce("inbox", f"approval:{approval.pk}")
        body = {"reason": reason}
        audit.record(actor=by.username, kind="approval.set_aside", subject=approval.pk, body=body)


def locked_for_redrive(approval_id: str, by: User) -> Approval:
    """Lock an approval for a change out of the lane. Raises NoSuchApproval, NotTheirs."""
    approval = Approval.objects.select_for_update(no_key=True, of=("self",)).filter(pk=approval_id).first()
    if approval is None:
        raise NoSuchApproval
    if not may_redrive(by, list(approval.decisions.all())):
        raise NotTheirs("This is for those who took part in the decision, for operators and for admins.")
    return approval


def check_late(approval: Approval) -> None:
    """Raise NothingToRedrive unless the decision is late by the database's clock."""
    if approval.took_effect_at is not None:
        raise NothingToRedrive("It has taken effect meanwhile; there is nothing left to do.")
    if approval.expected_by is None or approval.expected_by > database_now():
        raise NothingToRedrive("It is on its way and not late; look again in a minute.")


def checked_reason(reason: str) -> str:
    """Return the reason as it is kept. Raises InvalidChange for none, or one that is too long."""
    reason = reason.strip()
    if not reason:
        raise InvalidChange("reason", "Say why: the reason is kept in the record.")
    if fault := text_fault(reason, REASON_LIMIT):
        raise InvalidChange("reason", fault)
    return reason
