"""Reset: the run is set back to a checkpoint, in Temporal and in LangGraph together, and goes on from there anew.

One transaction raises the era, so that no attempt of before may begin an effect or move the run, lets what was asked
since then die, and marks the effects that were begun since: the ledger gives their outcome to whoever asks for the same
once more, so none happens twice. Then the relay starts the workflow anew for the era, and its first turn begins at a
copy of the checkpoint. Nothing is deleted: what is left behind can be read, and be returned to by another reset.
"""

from __future__ import annotations

from dataclasses import asdict

from approvals import services as approvals
from approvals.record import audit
from console import outbox
from console.environment import environment
from console.outbox import Kind
from orchestration import ending, failing, fences, restored
from orchestration.actions import facts
from orchestration.actions.base import Action, Preview, Wish
from orchestration.actions.points import Point, Where, point_of
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.batches import reopening
from orchestration.effects import count_again
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run

CAN_BE = (*Run.OPEN, Run.Status.FAILED, Run.Status.CANCELLED)


def preview(run: Run, where: Where) -> Preview:
    check(run)
    return preview_of(run, point_of(run, where))


def check(run: Run) -> None:
    """Raise ActionRefused where the run cannot be set back at all."""
    if run.status == Run.Status.FINISHED:
        raise ActionRefused("The run has finished, and what it came to may have been used. Fork it into a new run.")
    if run.restart and not run.restart["placed"] and run.status in Run.OPEN and run.era:
        raise ActionRefused("The run was set back a moment ago, and has not begun again yet. Look again soon.")
    reopening.check(run)
    check_agent(run)


def check_agent(run: Run) -> None:
    """Raise ActionRefused for a run of an agent that is not registered any more."""
    try:
        agent_named(run.agent)
    except UnknownAgent as exc:
        raise ActionRefused(f"{exc} So the run cannot go on.") from exc


def preview_of(run: Run, point: Point) -> Preview:
    warnings = []
    if run.status not in Run.OPEN:
        warnings.append(f"The run is {run.status} and is opened again.")
    if forgotten := point.forgotten():
        words = "1 decision was" if forgotten == 1 else f"{forgotten} decisions were"
        warnings.append(f"{words} taken up after that point without an effect of the ledger's: the agent forgets that.")
    for effect in Effect.objects.filter(pk__in=point.begun).exclude(status=Effect.Status.DONE).order_by("started_at"):
        if effect.is_idempotent:
            warnings.append(f"Nobody has seen the end of {effect.tool}. It is asked again under the same key only.")
        else:
            warnings.append(f"Nobody has seen the end of {effect.tool}. It is not repeated: a person is asked.")
    if point.again:
        warnings.append(
            "What was done stands. If the agent asks for something else in its place this time, that is another effect:"
            " compare before you approve it."
        )
    if restored.is_unsure(run):
        warnings.append(restored.UNSURE)
    if run.batch:
        warnings.append(f"It belongs to the batch {run.batch}, which counts it as under way again.")
    parts = facts.parts_alive()
    if "worker" not in parts:
        warnings.append("No worker is alive: the run goes on when one is back.")
    return Preview(
        effects_repeated=[],
        approvals_withdrawn=point.pending(),
        decisions_voided=point.voided(run.pk),
        checkpoints_dropped=point.dropped,
        effects_kept=point.begun,
        warnings=[*warnings, *facts.temporal_away(parts)],
        depends_on=(point.checkpoint_id, run.era, run.status in Run.OPEN),
    )


def do(run: Run, wish: Wish) -> None:
    set_back(run, point_of(run, wish.options), wish)


def set_back(run: Run, point: Point, wish: Wish) -> None:
    """Set the run back to the point. Part of the transaction that holds its row.

    Raises ActionRefused where its batch has begun another attempt of its row since `check`.
    """
    reopening.reopen(run)
    fences.begin_era(run)
    is_unsure = restored.is_unsure(run)
    run.status = Run.Status.PAUSED if run.paused else Run.Status.STARTING  # until the relay has started it anew
    run.error = run.result = run.closed_at = run.ending = run.swept_at = None
    run.restart = {"checkpoint_id": point.checkpoint_id, "values": {}, "placed": "", "is_unsure": is_unsure}
    run.checkpoint_id = point.checkpoint_id
    run.pause = {**(run.pause or {}), "asked_in": {}}
    for name, value in failing.OVER.items():
        setattr(run, name, value)
    run.save()
    Effect.objects.filter(pk__in=point.again).update(is_set_back=True)
    count_again(run.pk, point.counting)
    reason = f"{wish.by} has set the run back to before it: {wish.reason}"
    left = approvals.set_back(
        run_id=run.pk, asked=point.asked, reason=reason, actor=wish.by, begun=ending.begun(run.pk)
    )
    payload = restart_payload(run) | {"why": f"Signalbox: {wish.by}: {wish.reason}"}
    outbox.enqueue(kind=Kind.RESTART_RUN, subject=run.pk, payload=payload)
    body = {"era": run.era, "checkpoint_id": point.checkpoint_id, "kept": point.begun, **asdict(left)}
    audit.record(actor=wish.by, kind="run.set_back", subject=run.pk, body=body)


def restart_payload(run: Run) -> dict[str, object]:
    """Return what the workflow is started with for the run's present era; its turns go on counting."""
    return {
        "run_id": run.pk,
        "agent": run.agent,
        "turn_seconds": agent_named(run.agent).turn_seconds,
        "heartbeat_seconds": environment().heartbeat_seconds,
        "era": run.era,
        "turn": run.turn,
    }


ACTION = Action(
    name="reset",
    title="Reset this run",
    button="Reset the run",
    icon="undo-2",
    explains="It is set back to a checkpoint, in Temporal and in LangGraph together, and goes on from there. What it "
    "asked since then dies and is asked anew; what it did since then stands and is never done again.",
    said="The run is set back, and goes on from there.",
    kind="run.reset",
    preview=preview,
    do=do,
    options=Where,
    takes_point=True,
    needs_new_look=True,
    is_offered=lambda run: run.status in CAN_BE and run.turn > 0 and not (run.ending and run.status in Run.OPEN),
)
