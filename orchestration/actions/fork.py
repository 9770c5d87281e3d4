"""Fork: a new run begins where another one stood at a checkpoint, if wanted with another state; that one is left alone.

It is a run of its own: its thread begins with a copy of the checkpoint, its effects and requests are its own and are
asked anew. Who forks it started it, so somebody else has to decide what it asks.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from django.contrib.auth.models import User
from pydantic import Field

from approvals.record import audit
from console import outbox
from console.environment import environment
from console.live.announce import announce
from console.outbox import Kind
from orchestration import checkpoint_gateway, restored
from orchestration.actions import facts, reset
from orchestration.actions.base import Action, Preview, Wish
from orchestration.actions.points import Where, point_of
from orchestration.actions.state import is_plain
from orchestration.agents.registry import agent_named
from orchestration.errors import ActionRefused
from orchestration.models import Effect, Run
from orchestration.state.secrets import hidden_of

FORKS_IN_A_ROW = 50  # a fork of a fork of a fork


class Fork(Where):
    """Where a fork begins, and what is changed in its state."""

    values: Annotated[dict[str, Any], Field(title="State")] = {}
    key: Annotated[str, Field(max_length=100, title="Key")] = ""  # another one makes another fork of the same


def preview(run: Run, options: Fork) -> Preview:
    _check(run)
    point = point_of(run, Where(checkpoint_id=options.checkpoint_id, turn=options.turn, event_id=options.event_id))
    opened = checkpoint_gateway.checkpoint_of(run.pk, point.checkpoint_id)
    if opened.by_changes:
        raise ActionRefused(
            f"Of “{opened.by_changes[0]}” this checkpoint holds only what has changed since one before it, so a fork "
            "would begin without it. Set the run back to it instead, or fork it where its state is kept whole."
        )
    state = hidden_of(run.agent).without(opened.values)
    if unknown := sorted(options.values.keys() - state.keys()):
        raise ActionRefused(f"The state has no “{unknown[0]}” at this checkpoint, so it cannot be changed.")
    if opaque := sorted(name for name in options.values if not is_plain(state[name])):
        raise ActionRefused(f"“{opaque[0]}” holds more than plain JSON, so it cannot be changed here.")
    warnings = [f"The new run has the input of {run.pk}, and you start it: somebody else decides what it asks."]
    if run.status in Run.OPEN:
        warnings.append("The run that it is forked from goes on as well: both may ask for the same.")
    if state.get("answer"):
        warnings.append("The state holds an answer that was given to the other run. The fork may not use it.")
    if restored.is_unsure(run):
        warnings.append(restored.UNSURE)
    for name in sorted(options.values):
        warnings.append(f"“{name}” is changed in its state.")
    parts = facts.parts_alive()
    if "worker" not in parts:
        warnings.append("No worker is alive: the fork begins when one is back.")
    return Preview(
        effects_repeated=[pk for pk in point.begun if Effect.objects.get(pk=pk).status != Effect.Status.FAILED],
        warnings=[*warnings, *facts.temporal_away(parts)],
        depends_on=(point.checkpoint_id, options.values),
    )


def _check(run: Run) -> None:
    seen, parent = {run.pk}, run.parent_id
    while parent is not None:
        if parent in seen:
            raise ActionRefused(f"The runs that this one was forked from go in a circle ({parent}). Tell an admin.")
        if len(seen) >= FORKS_IN_A_ROW:
            raise ActionRefused(f"It is a fork of a fork, {FORKS_IN_A_ROW} times over. Fork the first one instead.")
        seen.add(parent)
        parent = Run.objects.filter(pk=parent).values_list("parent_id", flat=True).first()
    reset.check_agent(run)


def do(run: Run, wish: Wish) -> Run:
    options: Fork = wish.options
    point = point_of(run, Where(checkpoint_id=options.checkpoint_id, turn=options.turn, event_id=options.event_id))
    told = json.dumps([run.pk, point.checkpoint_id, options.values, options.key, wish.by, wish.reason])
    run_id = f"{run.agent}-fork-{hashlib.sha256(told.encode()).hexdigest()[:20]}"
    if (before := Run.objects.filter(pk=run_id).first()) is not None:
        return before
    fork = Run.objects.create(
        id=run_id,
        agent=run.agent,
        input=run.input,
        input_digest=run.input_digest,
        requested_by=User.objects.get(username=wish.by),
        parent=run,
        dataset_versions=run.dataset_versions,
        checkpoint_id=point.checkpoint_id,
        restart={"checkpoint_id": point.checkpoint_id, "values": options.values, "placed": ""},
        pause={**(run.pause or {}), "asked_in": {}},
        limits=run.limits,
    )
    checkpoint_gateway.copy_to(run.pk, point.checkpoint_id, run_id)
    start = {
        "run_id": run_id,
        "agent": run.agent,
        "turn_seconds": agent_named(run.agent).turn_seconds,
        "heartbeat_seconds": environment().heartbeat_seconds,
    }
    outbox.enqueue(kind=Kind.START_RUN, subject=run_id, payload=start)
    announce("runs", f"run:{run_id}")
    body = {"parent": run.pk, "checkpoint_id": point.checkpoint_id, "changed": sorted(options.values)}
    audit.record(actor=wish.by, kind="run.requested", subject=run_id, body=body)
    fork.refresh_from_db()
    return fork


ACTION = Action(
    name="fork",
    title="Fork this run",
    button="Fork the run",
    icon="git-branch",
    explains="A new run begins where this one stood at a checkpoint, if you like with another state. This one is left "
    "alone. The fork asks for its effects anew.",
    said="The fork is recorded, and begins as soon as Temporal takes it.",
    kind="run.forked",
    preview=preview,
    do=do,
    options=Fork,
    takes_point=True,
    is_grave=False,
    is_offered=lambda run: run.turn > 0,
)
