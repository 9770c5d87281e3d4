"""One action about many runs: counted and shown first, then carried out by the relays, run by run, each once.

The runs are fixed when it is asked for, by their ids: a filter that fits others a moment later takes no others along.
Each run's own action, its row here and its entry in the record are one transaction, so nothing is done twice and
nothing is left between. What does not fit a run is that run's own refusal. Stopping leaves what is done and begins no
more; so does the loss of the role of who had asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count
from ulid import ULID

from approvals.errors import NotTheirs
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console.clock import DatabaseNow
from console.database import AWAY
from console.live.announce import announce
from console.refusals import Refused
from orchestration import selectors
from orchestration.actions import acting
from orchestration.actions.table import ACTIONS
from orchestration.errors import ActionRefused, InvalidOptions, NoSuchBulk, NoSuchRun
from orchestration.models import BulkAction, BulkItem, Run

MOST: Final = 1000  # runs in one
AT_ONCE: Final = 10  # runs in one step of a relay
FILTERS: Final = ("status", "agent", "search", "stuck", "cause")  # as the list of runs has them
#: in bulk: those whose options mean the same for every run
IN_BULK: Final = tuple(name for name in ACTIONS if name not in ("fork", "reset"))
State = BulkItem.State

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Would:
    """What the action would do to one run: nothing, with the reason, or what its preview says."""

    run_id: str
    refusal: str = ""
    withdrawn: int = 0  # requests
    voided: int = 0  # decisions
    warnings: tuple[str, ...] = ()


def chosen(user: User, *, ids: list[str] | None = None, wanted: dict[str, str] | None = None) -> list[str]:
    """Return the runs meant, in a fixed order: those named that may be seen, or those that fit.

    Raises InvalidOptions, and NoSuchRun for one that is named and not there.
    """
    if (ids is None) == (wanted is None):
        raise InvalidOptions([{"path": "ids", "message": "Name the runs by ids or by a filter, and only by one."}])
    if ids is not None:
        visible = set(selectors.visible_to(user).filter(pk__in=ids).values_list("pk", flat=True))
        found = [one for one in dict.fromkeys(ids) if one in visible]
        if missing := [one for one in ids if one not in visible]:
            raise NoSuchRun(f"There is no run {missing[0][:100]} here, or you may not see it.")
    else:
        asked = wanted or {}
        if unknown := sorted(asked.keys() - set(FILTERS)):
            message = f"There is no such filter. There are: {', '.join(FILTERS)}."
            raise InvalidOptions([{"path": f"filter.{unknown[0]}", "message": message}])
        if asked.get("stuck", "") not in ("", "1"):
            message = "Send “1” for those that need somebody, or leave it out."
            raise InvalidOptions([{"path": "filter.stuck", "message": message}])
        page = selectors.runs_page(
            user,
            status=asked.get("status", ""),
            agent=asked.get("agent", ""),
            search=asked.get("search", ""),
            is_stuck=bool(asked.get("stuck")),
            cause=asked.get("cause", ""),
            limit=MOST + 1,
        )
        found = [row.run.pk for row in page.rows]
    if not found:
        raise InvalidOptions([{"path": "ids", "message": "No run fits."}])
    if len(found) > MOST:
        raise InvalidOptions([{"path": "ids", "message": f"At most {MOST:,} runs at once; narrow the filter."}])
    return found


def check(action: str, options: dict[str, Any]) -> None:
    """Raise InvalidOptions for an action that is not for many runs, or for options that it does not take."""
    if action not in IN_BULK:
        known = ", ".join(IN_BULK)
        raise InvalidOptions([{"path": "action", "message": f"No such action for many runs. There are: {known}."}])
    acting.options_of(action, options)


def preview(run_ids: list[str], action: str, options: dict[str, Any]) -> list[Would]:
    """Say for each run what the action would do now."""
    check(action, options)
    runs = Run.objects.in_bulk(run_ids)
    return [_would(runs[run_id], action, options) for run_id in run_ids if run_id in runs]


def _would(run: Run, action: str, options: dict[str, Any]) -> Would:
    try:
        seen = acting.preview(run, action, options)
    except Refused as exc:
        return Would(run.pk, refusal=exc.sentence)
    return Would(run.pk, "", len(seen.approvals_withdrawn), len(seen.decisions_voided), tuple(seen.warnings))


def meant(*, ids: list[str] | None = None, wanted: dict[str, str] | None = None) -> str:
    """Return the digest of which runs are asked for: the ids in whatever order, or the filter, whatever fits it."""
    by_ids = None if ids is None else sorted(set(ids))
    by_filter = None if wanted is None else sorted([name, value] for name, value in wanted.items() if value)
    return _digest([by_ids, by_filter])


def begin(
    *,
    run_ids: list[str],
    action: str,
    reason: str,
    by: User,
    options: dict[str, Any],
    key: str = "",
    asked_for: str = "",
) -> BulkAction:
    """Record that the action is to be carried out on these runs. The same again, while it is not over, finds the same.

    `key`: names it, and `asked_for` says by what the runs were chosen; see `found_under`. Raises InvalidChange without
    a reason, InvalidOptions, and ActionRefused where the key was used for something else a moment earlier.
    """
    reason = checked_reason(reason)
    check(action, options)
    digest = _digest([by.username, key]) if key else _digest([action, reason, by.username, options, run_ids])
    while not key and BulkAction.objects.filter(key=digest, closed_at__lt=DatabaseNow() - acting.SAME_CLICK).exists():
        digest = _digest([digest])  # what is over is over: whoever asks again wants it again
    with transaction.atomic():
        bulk, is_new = BulkAction.objects.get_or_create(
            key=digest,
            defaults={
                "id": f"bulk_{str(ULID()).lower()}",
                "action": action,
                "options": options,
                "reason": reason,
                "by": by,
                "total": len(run_ids),
                "asked_for": asked_for,
            },
        )
        if not is_new:
            if key:
                _check_same(bulk, action, reason, options, asked_for)
            return bulk
        BulkItem.objects.bulk_create(
            [BulkItem(bulk=bulk, number=number, run_id=run_id) for number, run_id in enumerate(run_ids)]
        )
        announce("runs", f"bulk:{bulk.pk}")
        body = {"action": action, "reason": reason, "runs": run_ids[:50], "total": len(run_ids)}
        audit.record(actor=by.username, kind="runs.action_requested", subject=bulk.pk, body=body)
    return bulk


def found_under(
    key: str, *, by: User, action: str, reason: str, options: dict[str, Any], asked_for: str
) -> BulkAction | None:
    """Return what this person has begun under the key, whichever runs fit by now.

    `asked_for`: what `meant` says. Raises ActionRefused where something else was asked for under the key.
    """
    found = BulkAction.objects.filter(key=_digest([by.username, key])).select_related("by").first() if key else None
    if found is not None:
        _check_same(found, action, reason, options, asked_for)
    return found


def _check_same(found: BulkAction, action: str, reason: str, options: dict[str, Any], asked_for: str) -> None:
    is_same = (found.action, found.reason, found.options) == (action, reason.strip(), options)
    if not is_same or found.asked_for not in ("", asked_for):  # "": of an earlier release
        raise ActionRefused("Something else was asked for under this key before. Use another key.")


def _digest(told: list[Any]) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def step() -> bool:
    """Carry the oldest open one on by some runs; return whether there is more. Any number may be called at once."""
    bulk = BulkAction.objects.filter(closed_at=None).select_related("by").order_by("created_at", "pk").first()
    if bulk is None:
        return False
    for _ in range(AT_ONCE):
        if not _carry_on(bulk):
            break
    with transaction.atomic():
        if not bulk.items.filter(state=State.WAITING).exists():  # what another relay has in hand still waits
            _close(bulk)
        announce("runs", f"bulk:{bulk.pk}")
    return True


def _carry_on(bulk: BulkAction) -> bool:
    """Do the action about the next run that nobody has in hand; return False when no more is to be done."""
    with transaction.atomic():  # one for each run: the record's chain is held to its end
        waiting = bulk.items.select_for_update(skip_locked=True, of=("self",)).filter(state=State.WAITING)
        item = waiting.order_by("number").first()
        if item is None:
            return False
        try:
            with transaction.atomic():
                acting.act(
                    run_id=item.run_id,
                    action=bulk.action,
                    reason=bulk.reason,
                    by=bulk.by,
                    state=_looked_at(item.run_id, bulk),
                    options=bulk.options,
                )
        except NotTheirs:
            _stop(bulk, by="signalbox", why="Whoever asked for this may not act on runs any more.")
            return False
        except Refused as exc:
            item.state, item.detail = State.REFUSED, exc.sentence[:500]
        except (*AWAY, psycopg.OperationalError):
            raise  # it is tried again
        except Exception:  # raised again it would keep every other bulk action waiting for good
            logger.exception("the action %s of %s about the run %s failed", bulk.action, bulk.pk, item.run_id)
            item.state, item.detail = State.REFUSED, _FAULT
        else:
            item.state, item.detail = State.DONE, ""
        item.at = DatabaseNow()
        item.save(update_fields=["state", "detail", "at"])
    return True


_FAULT: Final = "A fault inside Signalbox kept it from being done. The log of the relay says which: tell an admin."


def _looked_at(run_id: str, bulk: BulkAction) -> str:
    """Return the state of a look at the run, for actions that are not repeated without one; each item is done once."""
    if not ACTIONS[bulk.action].needs_new_look:
        return ""
    return acting.preview(Run.objects.get(pk=run_id), bulk.action, bulk.options).state


def stop(*, bulk_id: str, by: User) -> BulkAction:
    """Begin no more of it. What is done stays; a second stop changes nothing. Raises NoSuchBulk, NotTheirs."""
    if not acting.may_act(by.pk):
        raise NotTheirs("This is for operators and admins.")
    with transaction.atomic():
        bulk = BulkAction.objects.select_for_update(no_key=True).filter(pk=bulk_id).first()
        if bulk is None:
            raise NoSuchBulk(NoSuchBulk.__doc__)
        if bulk.closed_at is None:
            _stop(bulk, by=by.username, why=f"Stopped by {by.username}.")
    bulk.refresh_from_db()
    return bulk


def _stop(bulk: BulkAction, *, by: str, why: str) -> None:
    bulk.items.filter(state=State.WAITING).update(state=State.STOPPED, detail=why, at=DatabaseNow())
    bulk.stopped_by = by
    bulk.save(update_fields=["stopped_by"])
    _close(bulk)
    announce("runs", f"bulk:{bulk.pk}")
    audit.record(actor=by, kind="runs.action_stopped", subject=bulk.pk, body={"why": why})


def _close(bulk: BulkAction) -> None:
    BulkAction.objects.filter(pk=bulk.pk, closed_at=None).update(closed_at=DatabaseNow())


def counts_of(bulk: BulkAction) -> dict[str, int]:
    """Return how many runs are in each state."""
    found = dict(bulk.items.order_by().values_list("state").annotate(n=Count("pk")))
    return {str(state): found.get(state, 0) for state in State}


def bulk_for(bulk_id: str) -> BulkAction:
    """Return one. Raises NoSuchBulk."""
    bulk = BulkAction.objects.select_related("by").filter(pk=bulk_id).first()
    if bulk is None:
        raise NoSuchBulk(NoSuchBulk.__doc__)
    return bulk
