"""Ask again: what the run waits for is asked once more, with new requests: a reset to where it stands.

It helps where a request was put wrongly, or where an answer has got stuck in the graph's thread: the copy of the
checkpoint has neither the questions nor the answers of the one before.
"""

from __future__ import annotations

from typing import Any

from approvals import services as approvals
from orchestration import checkpoint_gateway
from orchestration.actions import facts, reset
from orchestration.actions.base import Action, Preview, Wish
from orchestration.actions.points import Point, Where, point_of
from orchestration.errors import ActionRefused
from orchestration.models import Run


def preview(run: Run, _: Any) -> Preview:
    return reset.preview_of(run, _point(run))


def _point(run: Run) -> Point:
    facts.check_open(run)
    reset.check(run)
    if not (approvals.open_of_run(run.pk) or approvals.not_begun_of_run(run.pk, [])):
        raise ActionRefused("The run has asked nothing that is still open, so there is nothing to ask again.")
    newest = checkpoint_gateway.newest_of(run.pk)
    if not newest:
        raise ActionRefused("The run has no checkpoint to ask from. Reset it, or end it and start another one.")
    return point_of(run, Where(checkpoint_id=newest))


def do(run: Run, wish: Wish) -> None:
    reset.set_back(run, _point(run), wish)


ACTION = Action(
    name="ask_again",
    title="Ask again",
    button="Ask again",
    icon="refresh-cw",
    explains="What the run waits for is withdrawn and asked once more, under the policy as it is now.",
    said="The run asks again.",
    kind="run.asked_again",
    preview=preview,
    do=do,
    needs_new_look=True,
    is_offered=lambda run: run.status == Run.Status.WAITING and not run.ending,
)
