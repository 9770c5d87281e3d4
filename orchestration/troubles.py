"""Tell the operators, once and by mail, of each cause for which runs need somebody; never once for each run.

Runs whom one cure helps are one group. It is told when it is new; while it lasts, and for QUIET_FOR after its last run,
others that join it are not told again: they stand in the stuck list, which the mail leads to.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef

from approvals.record import audit
from approvals.services.reminders import Mail, one_for_each_address
from console import outbox
from console.clock import DatabaseNow
from console.outbox import Kind
from console.text.visible import one_line
from orchestration.models import Run, Trouble

QUIET_FOR: Final = timedelta(hours=1)
NAMED: Final = 5  # runs in a mail


def note(
    group: str, cause: str, run_id: str, *, is_due: bool, actor: str, body: dict[str, Any] | None = None
) -> list[str]:
    """Keep that runs have this trouble, and tell the operators when it is new; return whom.

    `is_due`: it is to be told; what is tried again by itself is told later. Part of a transaction; of two at once one
    tells. The admins are told where no operator has an address, and accounts with the same address get one mail.
    """
    return note_held(hold(group, cause), run_id, is_due=is_due, actor=actor, body=body)


def hold(group: str, cause: str) -> Trouble:
    """Make the trouble's row where there is none, and hold it. Part of a transaction.

    Who notes several holds all of them first, by the order of their groups: after the first note the record's chain is
    held, and who has that waits for no row.
    """
    Trouble.objects.get_or_create(group=group, defaults={"cause": cause})
    return Trouble.objects.select_for_update().get(pk=group)


def note_held(
    trouble: Trouble, run_id: str, *, is_due: bool, actor: str, body: dict[str, Any] | None = None
) -> list[str]:
    """Do as `note` does with a trouble that is held."""
    trouble.last_seen_at, told = DatabaseNow(), list[str]()
    if is_due and trouble.told_at is None:
        trouble.told_at = DatabaseNow()
        people = _people("operator") or _people("admin")
        for user in people:
            outbox.enqueue(kind=Kind.RUN_STUCK, subject=run_id, payload={"group": trouble.group, "user_id": user.pk})
        told = [user.username for user in people]
        about = {"cause": trouble.cause, "group": trouble.group, "told": told}
        audit.record(actor=actor, kind="run.stuck", subject=run_id, body=(body or {}) | about)
    trouble.save()
    return told


def forget_those_that_are_over() -> None:
    """Forget troubles that no run has had for QUIET_FOR: should they come back, they are new."""
    has_runs = Exists(Run.objects.filter(cause_group=OuterRef("group")).exclude(cause=""))
    Trouble.objects.filter(~has_runs, last_seen_at__lt=DatabaseNow() - QUIET_FOR).delete()


def mail_for(*, user_id: int, group: str = "", run_id: str = "") -> Mail | None:
    """Return the mail as it is right now; `None` when its runs go on meanwhile, or the person has left.

    `run_id`: in place of a group, in entries of an earlier release.
    """
    user = User.objects.filter(pk=user_id, is_active=True).exclude(email="").first()
    rows = Run.objects.filter(status__in=Run.OPEN).exclude(cause="")
    rows = rows.filter(cause_group=group) if group else rows.filter(pk=run_id)
    first = list(rows.order_by("cause_since", "pk")[:NAMED])
    if user is None or not first:
        return None
    count = rows.count()
    if count == 1:
        subject = f"A run is stuck: {one_line(first[0].pk)[:150]}"
        lines = [f"The run {one_line(first[0].pk)} of {one_line(first[0].agent)} needs somebody.", ""]
    else:
        subject = f"{count:,} runs are stuck: {_heading(first[0])}"
        lines = [f"{count:,} runs need somebody, for one cause. The oldest:", ""]
    for run in first:
        lines += [one_line(run.cause_sentence), f"{settings.PUBLIC_URL}/runs/{run.pk}/", ""]
    lines += [f"All of them: {settings.PUBLIC_URL}/runs/stuck/", ""]
    lines.append("This is told once for this cause. Nothing is done by this mail.")
    return Mail(user.email, subject, "\n".join(lines))


def _heading(run: Run) -> str:
    return one_line(run.cause_group.replace("_", " "))[:120]


def _people(role: str) -> list[User]:
    return one_for_each_address(User.objects.filter(groups__name=role))
