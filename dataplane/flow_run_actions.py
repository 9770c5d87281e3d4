"""What admins do to one flow run: cancel it, let it run again, give back its slot. Each says first what it will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.functional import cached_property

from console import ports
from console.clock import database_now
from console.live.announce import announce
from console.roles import may
from console.text.stored import UNKEPT, can_be_kept, storable
from dataplane.deployments import PrefectDeployments, deployments
from dataplane.errors import FlowRunActionRefused, InvalidParameters, MayBeDone, PrefectAway
from dataplane.models import Refresh
from dataplane.prefect_gateway import FlowRun, PrefectGateway, gateway
from dataplane.refreshes import states

RETRY_AFTER: Final = timedelta(seconds=5)  # Prefect's runner may fall over a shorter one
LONGEST_REASON: Final = 500
_RETRIED: Final = ("FAILED", "CRASHED")


@dataclass(frozen=True)
class FlowRunOffer:
    """One action on one run: what will happen, or why it cannot be done now."""

    name: str
    title: str
    words: str
    refusal: str = ""


def offers(run: FlowRun) -> list[FlowRunOffer]:
    """Return what can be done to the run as it is now."""
    return [
        FlowRunOffer("cancel", "Cancel", _CANCEL.get(run.state_type, _CANCEL_RUNNING), _not_cancelled(run)),
        FlowRunOffer("retry", "Run again", _RETRY_AGAIN if _goes_on(run) else _RETRY, _not_retried(run)),
        FlowRunOffer("release_slot", "Give back its slot", _RELEASE, _not_released(run)),
    ]


_CANCEL_RUNNING: Final = (
    "Whoever runs it is asked to stop it, which takes about 15 seconds. If nobody answers for a minute, it is ended by "
    "force and its slot is given back. What it has done so far stays done."
)
_CANCEL: Final = {
    "SCHEDULED": "It has not begun: it ends at once and nothing is run.",
    "CANCELLING": "It is being cancelled already. Asking again changes nothing.",
}
_RETRY: Final = (
    "The same flow run, with the same parameters and key, begins again in about five seconds. Tasks whose results are "
    "not cached run once more, so what it did before may be done twice."
)
_RETRY_AGAIN: Final = "It begins again already. Asking again changes nothing."
_RELEASE: Final = (
    "The place it still takes of those that its deployment may use at once is given back, so that waiting runs begin. "
    "Nothing of the run itself changes."
)


def _not_cancelled(run: FlowRun) -> str:
    return f"It has ended: {run.state_name}." if run.is_terminal else ""


def _not_retried(run: FlowRun) -> str:
    if run.state_type == "COMPLETED":
        return "It completed: start it under a new key instead, so that both results stay apart."
    if run.state_type == "CANCELLED":
        return "It was cancelled: start it under a new key instead."
    return "" if run.state_type in _RETRIED or _goes_on(run) else "It has not ended yet."


def _goes_on(run: FlowRun) -> bool:
    """Return whether the run has been begun before and is to begin again, or has: a retry was heard already."""
    begun_before = {"SCHEDULED": run.state_name == "AwaitingRetry", "PENDING": run.run_count > 0}
    return begun_before.get(run.state_type, run.state_type == "RUNNING" and run.run_count > 1)


def _not_released(run: FlowRun) -> str:
    return "" if run.is_terminal else "It has not ended, so the slot is its own: cancel it first."


def act(*, flow_run_id: str, action: str, reason: str, user: User) -> FlowRun:
    """Do one action to the run and return the run as it is then; as it was before, where Prefect tells no more.

    1. Check that the person may, that there is a reason, and that the run's state allows it.
    2. Move the refresh of a run that goes on; record what is asked for, announce. This is kept whatever Prefect says.
    3. Do it in Prefect. What may be asked twice does nothing the second time.

    Raises PermissionDenied, InvalidParameters, FlowRunNotFound, FlowRunActionRefused, PrefectRefused; PrefectAway when
    nothing was asked for, MayBeDone when Prefect gave no answer to 3. The same again is then the way on.
    """
    if not may(user, "act_on_flow_run"):
        raise PermissionDenied("Only an admin may act on a flow run.")
    door = gateway()
    run = door.flow_run(flow_run_id)
    offer = next((one for one in offers(run) if one.name == action), None)
    errors = []
    if offer is None:
        errors.append(("action", f"must be one of {', '.join(one.name for one in offers(run))}"))
    if not reason.strip():
        errors.append(("reason", "say why, in a few words: it stands in the record"))
    elif len(reason) > LONGEST_REASON:
        errors.append(("reason", f"must have {LONGEST_REASON} characters at most"))
    elif not can_be_kept(reason):
        errors.append(("reason", UNKEPT))
    if errors or offer is None:
        raise InvalidParameters(errors)
    if offer.refusal:
        raise FlowRunActionRefused(offer.refusal)
    with transaction.atomic():
        if action == "retry":
            _open_refresh(run, is_known_to_go_on=_goes_on(run))
        announce("data")
        body = {"reason": reason.strip(), "state": run.state_name, "flow": storable(run.flow)}
        ports.record().record(
            actor=user.get_username(), kind=f"flow_run.{action}", subject=f"flow-run:{run.id}", body=body
        )
    try:
        _DO[action](_Doing(door, run))
    except PrefectAway as exc:
        raise MayBeDone(str(exc)) from exc
    try:
        return door.flow_run(run.id)
    except PrefectAway:
        return run  # it is done; what the run has come to is told by its page


def _open_refresh(run: FlowRun, *, is_known_to_go_on: bool) -> None:
    """Let the refresh of a run that begins again be followed anew; of one that goes on already, where it has ended."""
    rows = Refresh.objects.filter(prefect_flow_run_id=run.id).exclude(deployment="")
    if is_known_to_go_on:
        rows = rows.filter(status=Refresh.Status.FAILED)
    # When it begins to read anew nobody has seen yet, and the version that it tells of is judged by that.
    if states.move(rows, Refresh.Status.SCHEDULED, error="", started_at=None, finished_at=None):
        announce("data")


@dataclass
class _Doing:
    prefect: PrefectGateway
    run: FlowRun

    @cached_property
    def others(self) -> PrefectDeployments:
        return deployments()


def _cancel(doing: _Doing) -> None:
    if doing.run.state_type == "SCHEDULED":
        doing.prefect.cancel(doing.run.id, "Cancelled in Signalbox before it began.")
    elif doing.run.state_type != "CANCELLING":
        doing.others.ask_to_cancel(doing.run.id)


def _retry(doing: _Doing) -> None:
    if _goes_on(doing.run):
        return
    doing.prefect.run_again(doing.run.id, f"Asked for in Signalbox at {database_now():%H:%M} UTC.", after=RETRY_AFTER)
    with transaction.atomic():  # whoever follows it may have seen it failed since its refresh was opened
        _open_refresh(doing.run, is_known_to_go_on=True)


def _release(doing: _Doing) -> None:
    doing.others.release_slot(doing.run.id)


_DO: Final[dict[str, Callable[[_Doing], Any]]] = {"cancel": _cancel, "retry": _retry, "release_slot": _release}
