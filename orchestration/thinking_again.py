"""Refresh what a run has read, and have it think again once that has brought another version.

The wish is a row that the relays carry out. It waits for the refreshes; the request stays as it is, and may be decided.
Only when what the agent had read is no longer current is the run set back to before it had read that: what it asked is
withdrawn, and it asks anew. A refresh that fails, or changes nothing, leaves the request as it was.
"""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction

from approvals import services as approvals
from approvals.errors import NotTheirs
from approvals.models import Approval
from approvals.people.permissions import may_decide
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console import ports, roles
from console.clock import DatabaseNow
from console.live.announce import announce
from console.ports import Read
from orchestration import checkpoint_gateway, ending
from orchestration.actions import acting, facts, reset
from orchestration.actions.base import Wish
from orchestration.actions.points import Point, Where, point_of
from orchestration.errors import ActionRefused, NoSuchRun
from orchestration.models import Rethinking, Run

KIND = "run.thought_again"
REASON = "What the agent has read may be out of date."  # where nobody gives another
NOT_THEIRS = "This is for those who may decide what the run asks, for operators and for admins."


def may_ask(user: User, run: Run) -> bool:
    """Return whether the person may: those who act on runs, and those who may decide what this one asks."""
    if roles.may(user, "act_on_run"):
        return True
    if not roles.may(user, "decide"):
        return False
    return any(may_decide(user, one).allowed for one in Approval.objects.filter(pk__in=approvals.open_of_run(run.pk)))


def check(run: Run) -> list[Read]:
    """Return what the run has read. Raises ActionRefused, with a sentence, where it cannot think again."""
    facts.check_open(run)
    reset.check(run)
    if run.ending:
        raise ActionRefused(f"{run.ending['by']} has asked for the run's end already: {run.ending['reason']}")
    if approvals.not_begun_of_run(run.pk, ending.begun(run.pk)):
        raise ActionRefused(
            "Somebody has decided a part of what the run asks, and that has not taken effect yet: thinking again would "
            "take it back. Decide the rest, or have an operator set the run back."
        )
    if not approvals.open_of_run(run.pk):
        raise ActionRefused("The run has asked nothing that is still open, so there is nothing to think again.")
    reads = ports.data_plane().told(run.dataset_versions)
    if not reads:
        raise ActionRefused("The run has read no dataset, so a refresh cannot change what it asks.")
    return reads


def stale_datasets(reads: list[Read]) -> list[str]:
    """Return the datasets that are refreshed first: all but those whose newer version is there already."""
    superseded = {read["dataset"] for read in reads if not read["is_current"]}
    return sorted({read["dataset"] for read in reads} - superseded)


def ask(*, run_id: str, by: User, reason: str) -> Rethinking:
    """Keep the wish, on the record, with the refreshes that it needs; return it.

    1. Look, under the run's lock, whether the person may and the run can.
    2. Ask for the refreshes, each in a transaction of its own: Prefect may be asked, and the record is not held for it.
    3. Look again, and keep the wish, in one transaction. Where it is refused only now, the refreshes go on.

    While a wish of the run waits, a second click returns that one, whoever clicks. `reason`: at most 400 characters.
    Raises NoSuchRun, InvalidChange for the reason, NotTheirs, and ActionRefused with a sentence where the run cannot
    think again or a refresh cannot be started.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        user, run = _looked_at(run_id, by)
        if waiting := waiting_of(run.pk):
            return waiting
        reads = _can_be_read_anew(run)
    try:
        refreshes = [ports.data_plane().refresh_for_run(name, user) for name in stale_datasets(reads)]
    except ports.RefreshNotStarted as exc:
        raise ActionRefused(str(exc)) from exc
    with transaction.atomic():
        user, run = _looked_at(run_id, by)
        if waiting := waiting_of(run.pk):
            return waiting
        _can_be_read_anew(run)
        open_ones = approvals.open_of_run(run.pk)
        row = Rethinking.objects.create(run=run, by=user, reason=reason, refreshes=refreshes, approvals=open_ones)
        body = {"reason": reason, "refreshes": refreshes, "approvals": open_ones}
        _tell(row)
        audit.record(actor=user.username, kind="run.asked_to_think_again", subject=run.pk, body=body)
    return row


def _looked_at(run_id: str, by: User) -> tuple[User, Run]:
    """Return the person as they are now, and the run, which is held. Raises NoSuchRun and NotTheirs."""
    run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
    if run is None:
        raise NoSuchRun(NoSuchRun.__doc__)
    user = User.objects.get(pk=by.pk)  # the role may have been lost since the page was drawn
    if not may_ask(user, run):
        raise NotTheirs(NOT_THEIRS)
    return user, run


def _can_be_read_anew(run: Run) -> list[Read]:
    """Return what the run has read. Raises ActionRefused, with a sentence, where it cannot think again from before."""
    reads = check(run)
    _point(run, reads)
    return reads


def waiting_of(run_id: str) -> Rethinking | None:
    """Return the wish that waits for its refreshes, if there is one."""
    return Rethinking.objects.filter(run_id=run_id, state=Rethinking.State.WAITING).select_related("by").first()


def told(run_id: str) -> str:
    """Return in a sentence how the newest wish stands, "" where there is none or it was carried out. Two queries."""
    row = Rethinking.objects.filter(run_id=run_id).select_related("by").order_by("-pk").first()
    if row is None or row.state == Rethinking.State.DONE:
        return ""
    if row.state == Rethinking.State.WAITING:
        names = [one.dataset for one in ports.data_plane().refresh_stands(row.refreshes) if one.is_open]
        waits = f"waits for the refresh of {' and '.join(names)}" if names else "is being carried out"
        return f"{row.by.username} wants the agent to think again on newer data; that {waits}."
    return f"{row.by.username} wanted the agent to think again on newer data. {row.detail}"


def step() -> bool:
    """Carry out the wishes whose refreshes have ended; return whether there is more to do at once, which is never.

    A chore of every relay. Each wish is a transaction of its own, taken under its run's lock and looked at again there:
    a relay that dies leaves it waiting, and two relays carry it out once.
    """
    waiting = Rethinking.objects.filter(state=Rethinking.State.WAITING).order_by("pk")
    for pk, run_id in list(waiting.values_list("pk", "run_id")):
        with transaction.atomic():
            run = Run.objects.select_for_update(no_key=True).get(pk=run_id)  # first, as every action takes it
            rows = Rethinking.objects.select_for_update(of=("self",)).select_related("by")
            row = rows.filter(pk=pk, state=Rethinking.State.WAITING).first()
            if row is not None:
                _carry_out(row, run)
    return False


def _carry_out(row: Rethinking, run: Run) -> None:
    """End the wish, or leave it waiting. The run and the wish are held."""
    state = Rethinking.State
    # Held too: nobody decides between the look and the withdrawal.
    rows = Approval.objects.select_for_update(no_key=True, of=("self",))
    asked = list(rows.filter(pk__in=row.approvals).order_by("pk"))
    if [one for one in asked if one.status == Approval.Status.DECIDED]:  # it may have ended the run already
        return _end(row, state.DROPPED, "The request was decided first, and that decision stands.")
    if run.status not in Run.OPEN:
        return _end(row, state.DROPPED, f"The run was {run.status} first.")
    if not [one for one in asked if one.is_open]:
        return _end(row, state.DROPPED, "The request was no longer open.")
    if run.ending:
        return _end(row, state.DROPPED, f"{run.ending['by']} asked for the run's end first.")
    if approvals.not_begun_of_run(run.pk, ending.begun(run.pk)):
        return _end(row, state.DROPPED, "A part of what the run asks was decided first, and that decision stands.")
    stands = ports.data_plane().refresh_stands(row.refreshes)
    if faults := [one.fault for one in stands if one.fault]:
        return _end(row, state.FAILED, f"{' '.join(faults)} The request is as it was.")
    if [one for one in stands if one.is_open]:
        return None
    reads = ports.data_plane().told(run.dataset_versions)
    if all(read["is_current"] for read in reads):
        for one in asked:
            approvals.renew_terms(one.pk)  # a rule may have asked whether the data was stale
        return _end(row, state.UNCHANGED, "The refresh changed nothing: what the agent had read is still current.")
    if not may_ask(User.objects.get(pk=row.by_id), run):
        return _end(row, state.DROPPED, "They may not do that any more.")
    if not acting.is_told(run):  # another action is on its way to Temporal
        return None
    try:
        check(run)
        point = _point(run, reads)
    except ActionRefused as exc:
        return _end(row, state.FAILED, f"{exc} The request is as it was.")
    reset.set_back(run, point, Wish(row.by.username, row.reason, None))
    _end(row, state.DONE, "")
    body = {"reason": row.reason, "refreshes": row.refreshes, "superseded": [one.pk for one in asked]}
    audit.record(actor=row.by.username, kind=KIND, subject=run.pk, body=body)
    return None


def _end(row: Rethinking, state: Rethinking.State, detail: str) -> None:
    row.state, row.detail, row.closed_at = state, detail[:500], DatabaseNow()
    row.save(update_fields=["state", "detail", "closed_at"])
    _tell(row)


def _tell(row: Rethinking) -> None:
    announce("runs", f"run:{row.run_id}", *(f"approval:{pk}" for pk in row.approvals))


def _point(run: Run, reads: list[Read]) -> Point:
    """Return the newest point at which the run had not read what it is to read anew. Raises ActionRefused."""
    old = [read for read in reads if not read["is_current"]]
    read_anew = [{"dataset": read["dataset"], "version": read["version"]} for read in old or reads]
    line = checkpoint_gateway.line_to(run.pk, checkpoint_gateway.newest_of(run.pk))
    if not line:
        raise ActionRefused("The run has no checkpoint to think again from. End it and start another one.")
    if _has_read(run.pk, line[0], read_anew):
        raise ActionRefused("The run began with what had been read before it was forked. Start another one instead.")
    before, after = 0, len(line)  # what has been read stays in the state: it is there from some checkpoint on
    while after - before > 1:
        middle = (before + after) // 2
        if _has_read(run.pk, line[middle], read_anew):
            after = middle
        else:
            before = middle
    if after == len(line):
        before = 0  # the graph says at its end only what it has read
    return point_of(run, Where(checkpoint_id=line[before]))


def _has_read(run_id: str, checkpoint_id: str, reads: list[dict[str, object]]) -> bool:
    kept = checkpoint_gateway.checkpoint_of(run_id, checkpoint_id).values.get("dataset_versions")
    return isinstance(kept, list) and any(read in kept for read in reads)
