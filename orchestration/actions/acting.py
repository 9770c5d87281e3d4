"""Say what an action would do to a run, and do it, on the record.

Whoever comes second while an action is on its way to Temporal is told so; only an end overtakes. The same click again
is the same answer: the newest action of a run is not done a second time by the same person, for the same reason, with
the same options. One that may be repeated is done again once the first is long over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import transaction
from pydantic import ValidationError

from approvals import services as approvals
from approvals.errors import NotTheirs
from approvals.record import audit
from approvals.services.receipts import checked_reason
from console import roles
from console.clock import database_now
from console.live.announce import announce
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration.actions.base import Action, Options, Preview, Wish
from orchestration.actions.points import Where, settled
from orchestration.actions.table import ACTIONS
from orchestration.errors import ActionRefused, InvalidOptions, NoSuchRun
from orchestration.models import Run, RunAction

#: for so long the same again is a second click
SAME_CLICK: Final = timedelta(minutes=1)
#: what of an action is still to reach Temporal
ON_THE_WAY = (Kind.CANCEL_RUN, Kind.TERMINATE_RUN, Kind.RETRY_TURN, Kind.FAIL_TURN, Kind.RESTART_RUN)


@dataclass(frozen=True)
class Done:
    """The run as the action left it, and the run that it made, if any."""

    run: Run
    new_run: Run | None = None


def options_of(action: str, given: dict[str, Any]) -> Options:
    """Read an action's options. Raises InvalidOptions with each field's name, and for an action that is not known."""
    try:
        return ACTIONS[action].options.model_validate(given)
    except KeyError:
        known = ", ".join(ACTIONS)
        raise InvalidOptions([{"path": "action", "message": f"There is no such action. There are: {known}."}]) from None
    except ValidationError as exc:
        errors = [{"path": ".".join(map(str, one["loc"])), "message": _words_of(one)} for one in exc.errors()]
        raise InvalidOptions(errors) from exc


def _words_of(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "This action takes no such field."
    if error["type"] == "missing":
        return "This is needed."
    words = str(error["msg"]).removeprefix("Value error, ")
    return words[:1].upper() + words[1:] + ("" if words.endswith(".") else ".")


def preview(run: Run, action: str, options: dict[str, Any] | None = None) -> Preview:
    """Say what the action would do to the run now. Raises ActionRefused when it would not be taken, InvalidOptions."""
    read = options_of(action, options or {})
    known = ACTIONS[action]
    seen = known.preview(run, read)
    _check_free(run, known)
    return seen


def act(
    *, run_id: str, action: str, reason: str, by: User, state: str = "", options: dict[str, Any] | None = None
) -> Done:
    """Do it, on the record; return the run. The same action again is the same answer.

    `state`: of the preview that the person saw; it is refused when the action would now do something else. Raises
    NoSuchRun, InvalidChange without a reason, InvalidOptions, ActionRefused, and NotTheirs for who has lost the role.
    """
    reason = checked_reason(reason)
    read = options_of(action, options or {})
    known = ACTIONS[action]
    if isinstance(read, Where):
        read = settled(run_id, read)
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None:
            raise NoSuchRun(NoSuchRun.__doc__)
        if not may_act(by.pk):  # asked again: the role may have been lost since the page was drawn
            raise NotTheirs("This is for operators and admins.")
        key = _key(known, by, reason, read, state)
        before = RunAction.objects.filter(run=run).order_by("-pk").select_related("new_run").first()
        if before is not None and before.key == key and _is_second_click(known, before, state):
            return Done(run, before.new_run)
        if known.is_same(run, by.username):
            return Done(run)
        approvals.hold_of_run(run_id)  # a decision under way ends first, and is seen
        seen = known.preview(run, read)
        _check_free(run, known)
        if state and state != seen.state:
            raise ActionRefused("The run has moved on since this was shown. Read again what it would do now.")
        given = read.model_dump(mode="json", exclude_defaults=True)
        new_run = known.do(run, Wish(by.username, reason, read))
        RunAction.objects.create(
            run=run, action=known.name, by=by.username, reason=reason, options=given, key=key, new_run=new_run
        )
        announce("runs", f"run:{run_id}")
        body: dict[str, Any] = {"reason": reason}
        if given:
            body["options"] = audit.as_told(given)
        if new_run is not None:
            body["new_run"] = new_run.pk
        audit.record(actor=by.username, kind=known.kind, subject=run_id, body=body)
    run.refresh_from_db()
    return Done(run, new_run)


def may_act(user_id: int) -> bool:
    """Return whether the account, as it is now, may act on runs."""
    user = User.objects.filter(pk=user_id).first()
    return user is not None and roles.may(user, "act_on_run")


def is_told(run: Run) -> bool:
    """Return whether Temporal has taken what an operator asked for."""
    return not _on_the_way(run)


def offered(run: Run) -> list[Action]:
    """Return the actions that the run's page offers as buttons."""
    return [one for one in ACTIONS.values() if one.is_offered(run)]


def _check_free(run: Run, action: Action) -> None:
    """Raise ActionRefused while another action is under way."""
    if action.overtakes:
        return
    asked: dict[str, Any] = run.ending or {}
    if asked and run.status in Run.OPEN:
        raise ActionRefused(f"{asked['by']} has asked to {_WORDS[asked['action']]} it already: {asked['reason']}")
    if _on_the_way(run):
        newest = RunAction.objects.filter(run=run).order_by("-pk").first()
        words = f"{newest.by} asked for “{ACTIONS[newest.action].button}”" if newest else "somebody was first"
        raise ActionRefused(f"Another action is under way: {words}, and Temporal has not taken that yet.")


_WORDS = {"cancel": "cancel", "end": "end", "fail_activity": "fail"}


def _on_the_way(run: Run) -> bool:
    return OutboxEntry.objects.filter(delivered_at=None, kind__in=ON_THE_WAY, subject=run.pk).exists()


def _is_second_click(action: Action, before: RunAction, state: str) -> bool:
    """Return whether what is asked for again is what was done; `before`: that. Raises ActionRefused if nobody can tell.

    Where a state is told, what was seen then was seen before it was done.
    """
    if before.at >= database_now() - SAME_CLICK:
        return True
    if action.needs_new_look and not state:
        raise ActionRefused(
            "This was asked for in just these words before, and was done then. To do it once more, read what it would "
            "do now (`dry_run`) and send the `state` of that."
        )
    return not action.may_be_repeated


def _key(action: Action, by: User, reason: str, options: Options, state: str) -> str:
    told = json.dumps([action.name, by.username, reason, options.model_dump(mode="json"), state])
    return hashlib.sha256(told.encode()).hexdigest()
