"""The effect ledger: what was approved is done at most once, and by the newest attempt only.

Before a tool is called, one transaction checks the fence, reads the approval again from its canonical bytes and
writes the Effect row. So after a crash the row tells: `done` is never repeated, `executing` is repeated with the
same key when the tool takes one, and becomes `unknown` when it does not.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from approvals import services as approvals
from approvals.errors import NotAuthorised
from approvals.models import Approval
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.services import Authorised
from console import faults
from console.clock import DatabaseNow
from console.live.announce import announce
from console.text.stored import storable
from orchestration.agents.arguments import Unfit, read_back, write_down
from orchestration.agents.runtime import Agent, Outcome, Tool, ToolFailed, World
from orchestration.errors import EffectUnclear, Fenced
from orchestration.models import Effect, Run
from orchestration.threads import in_database


@dataclass(frozen=True)
class _Begun:
    """An effect that may start now; `arguments`: the tool's own object, read once from the approved bytes."""

    action: Authorised
    arguments: Any
    key: str  # what the tool is called with
    tool: Tool


#: what this process is at: the run and the approval of each. The event loop itself keeps tasks only weakly.
_under_way: dict[asyncio.Task[Outcome], tuple[str, str]] = {}


@dataclass
class EffectLedger:
    """The ledger as one turn's attempt may use it; see `orchestration.agents.runtime.Effects`."""

    run_id: str
    fence: int
    agent: Agent
    world: World
    is_over: bool = field(default=False, init=False)  # the graph has stopped

    @asynccontextmanager
    async def seen_through(self) -> AsyncIterator[None]:
        """Call the graph inside this block; it ends once the calls of the run that are under way have ended.

        A node may end while a tool is called in it: a call beside it asks people, or fails. The next turn would take
        the effect of a living call for one that was cut off. What is left of such a node begins nothing afterwards.
        A turn that is cancelled does not wait; where its next attempt is here too, that one hears how the call ends.
        """
        try:
            yield
        except Exception:
            await _ended(self.run_id)
            raise
        else:
            await _ended(self.run_id)
        finally:
            self.is_over = True

    async def perform(self, approval_id: str, digest: str) -> Outcome:
        """Perform what was approved, at most once.

        On retry: a finished effect returns its stored outcome. One that this process is at is waited for. Another
        unfinished one is asked again with the same key, or becomes `unknown`. Raises Fenced when a newer attempt has
        begun or the turn is over, EffectUnclear when an idempotent tool gave no clear answer (the turn is then tried
        again).
        """
        return await self._perform(approval_id, digest, None)

    async def perform_with(self, tool: Tool, approval_id: str, digest: str) -> Outcome:
        """Do the same by a tool that the agent has not registered; see `orchestration.agents.guarding`."""
        return await self._perform(approval_id, digest, tool)

    async def _perform(self, approval_id: str, digest: str, given: Tool | None) -> Outcome:
        if self.is_over:
            raise Fenced(f"The turn of {self.run_id} is over: no effect is begun.")
        while (before := _calls_of(self.run_id).get(approval_id)) is not None:
            with suppress(Fenced):  # it was an older attempt's, which did not come to begin it
                return await asyncio.shield(before)
        # Cancelling the turn does not undo what has begun: it is called, and its end is still seen and written.
        call = asyncio.create_task(self._begin_and_call(approval_id, digest, given))
        _under_way[call] = (self.run_id, approval_id)
        call.add_done_callback(_under_way.pop)
        return await asyncio.shield(call)

    async def _begin_and_call(self, approval_id: str, digest: str, given: Tool | None) -> Outcome:
        begun = await in_database(self._begin, approval_id, digest, given)
        return await self._call(begun) if isinstance(begun, _Begun) else begun

    async def settle(self, approval_id: str, question_id: str) -> Outcome:
        """Close an unknown effect by what a person says of it; without an answer it stays unknown."""
        return await in_database(self._settle, approval_id, question_id)

    async def refuse(self, approval_id: str, reason: str) -> None:
        """Say with what was approved that it is not done, unless it has begun. Again changes nothing. Raises Fenced."""
        await in_database(self._refuse, approval_id, reason)

    def _refuse(self, approval_id: str, reason: str) -> None:
        with transaction.atomic():
            self._check_fence()
            if Approval.objects.filter(pk=approval_id, run_id=self.run_id).exists():
                approvals.note_not_taken(approval_id=approval_id, detail=reason)

    def _begin(self, approval_id: str, digest: str, given: Tool | None = None) -> _Begun | Outcome:
        with transaction.atomic():
            run = self._check_fence()
            effect = Effect.objects.select_for_update().filter(pk=approval_id).first()
            if effect is None and run.ending:  # its preview has said that this decision dies
                raise Fenced(f"{run.ending['by']} has asked for the end of {self.run_id}: no effect is begun.")
            if effect is not None and effect.run_id != self.run_id:  # a fork's state holds its parent's answers
                return Outcome(status="refused", result=None, reason="The approval was given to another run.")
            if effect is not None and effect.status != Effect.Status.EXECUTING:
                return _outcome(effect)
            if effect is not None and not effect.is_idempotent:
                close_effect(effect, Effect.Status.UNKNOWN, error="The attempt was cut off before its end was seen.")
                return _outcome(effect)
            try:
                action = approvals.authorise(approval_id=approval_id, digest=digest)
                tool = self._tool(action.tool, given)
                if action.run_id != self.run_id:
                    raise NotAuthorised("The approval was given to another run.")
                arguments = _read_approved(tool, action.arguments, digest)
            except NotAuthorised as exc:
                if effect is not None:  # an attempt before this one began it, and may have done it
                    close_effect(effect, Effect.Status.UNKNOWN, error=f"It was cut off, and not asked again: {exc}")
                    return _outcome(effect)
                approvals.note_effect(approval_id=approval_id, event="refused", detail=str(exc))
                return Outcome(status="refused", result=None, reason=str(exc))
            if effect is None:
                before = self._set_back(tool.name, digest)
                effect = Effect.objects.create(
                    approval_id=approval_id,
                    run_id=self.run_id,
                    tool=tool.name,
                    digest=digest,
                    arguments=action.arguments,
                    decision_id=action.decision_id,
                    is_idempotent=tool.is_idempotent,
                    fence=self.fence,
                    key=(before.key or before.pk) if before else "",
                )
                time_for_it = timedelta(seconds=tool.timeout_seconds)
                announce(f"run:{self.run_id}")  # before the record's chain is held: what comes after it keeps everybody
                detail = f"{tool.title}: begun under {before.pk}, before the run was set back" if before else tool.title
                approvals.note_effect(approval_id=approval_id, event="started", detail=detail, within=time_for_it)
                if before is not None and _take_up(before, effect):
                    return _outcome(effect)
            else:
                Effect.objects.filter(pk=approval_id).update(fence=self.fence, attempts=F("attempts") + 1)
                announce(f"run:{self.run_id}")
            return _Begun(action, arguments, effect.key or approval_id, tool)

    async def _call(self, begun: _Begun) -> Outcome:
        action, arguments, tool = begun.action, begun.arguments, begun.tool
        faults.reach("effect.before_call", self.run_id)
        try:
            async with asyncio.timeout(tool.timeout_seconds):
                result = await tool.call(arguments, self.world, begun.key)
        except ToolFailed as exc:
            return await in_database(self._end, action.approval_id, Effect.Status.FAILED, None, str(exc))
        except Exception as exc:  # whatever a tool raises, its outcome is not known
            if tool.is_idempotent:
                raise EffectUnclear(f"{tool.name} gave no clear answer: {type(exc).__name__}") from exc
            error = f"{type(exc).__name__}: {exc}"
            return await in_database(self._end, action.approval_id, Effect.Status.UNKNOWN, None, error)
        faults.reach("effect.after_call", self.run_id)
        return await in_database(self._end, action.approval_id, Effect.Status.DONE, result, "")

    def _end(self, approval_id: str, status: str, result: dict[str, Any] | None, error: str) -> Outcome:
        """Store how the call ended. Not fenced: what happened, happened, whoever tells it; the first word stands."""
        with transaction.atomic():
            effect, family = hold_family(self.run_id, approval_id)
            if effect.status in _OPEN:
                close_with_twins(effect, family, status, result=result, error=error)
            return _outcome(effect)

    def _settle(self, approval_id: str, question_id: str) -> Outcome:
        with transaction.atomic():
            self._check_fence()
            effect, family = hold_family(self.run_id, approval_id)
            if effect.status != Effect.Status.UNKNOWN:
                return _outcome(effect)
            question = Approval.objects.get(pk=question_id)
            try:
                answer = approvals.authorise(approval_id=question_id, digest=question.digest)
            except NotAuthorised:
                return _outcome(effect)  # nobody answered
            if answer.kind != Approval.Kind.OUTCOME or answer.arguments["approval_id"] != approval_id:
                return _outcome(effect)
            happened = answer.verdict == "approve"
            status = Effect.Status.DONE if happened else Effect.Status.FAILED
            result = {"confirmed_by": answer.decided_by} if happened else None
            error = "" if happened else f"It did not happen, says {answer.decided_by}."
            close_with_twins(effect, family, status, result=result, error=error)
            return _outcome(effect)

    def _set_back(self, tool: str, digest: str) -> Effect | None:
        """Return the effect, if any, that the run had begun before it was set back and now asks for once more.

        Each is taken up once, so that what the run did twice it may ask for twice.
        """
        done = Effect.objects.select_for_update().filter(run_id=self.run_id, tool=tool, digest=digest)
        done = done.filter(is_set_back=True, taken_up_by="").exclude(status=Effect.Status.FAILED)
        return done.order_by("started_at", "pk").first()

    def _check_fence(self) -> Run:
        run = Run.objects.select_for_update(no_key=True).only("fence", "status", "ending").get(pk=self.run_id)
        if run.fence != self.fence or run.status not in Run.OPEN:
            raise Fenced(f"A newer attempt of {self.run_id} has begun, or it is closed; this one starts no effect.")
        return run

    def _tool(self, name: str, given: Tool | None) -> Tool:
        if given is not None and given.name == name:
            return given
        tool = self.agent.tool(name)
        if tool is None:
            raise NotAuthorised(f"The agent {self.agent.name} has no tool {name!r}.")
        return tool


_OPEN = (Effect.Status.EXECUTING, Effect.Status.UNKNOWN)


def _calls_of(run_id: str) -> dict[str, asyncio.Task[Outcome]]:
    """Return the run's calls that this event loop is at, by approval."""
    loop = asyncio.get_running_loop()
    return {
        approval_id: call
        for call, (of_run, approval_id) in list(_under_way.items())
        if of_run == run_id and not call.done() and call.get_loop() is loop
    }


async def _ended(run_id: str) -> None:
    """Wait for the run's calls, however they end; also for what begins meanwhile."""
    while calls := _calls_of(run_id):
        await asyncio.wait(calls.values())


def _take_up(before: Effect, effect: Effect) -> bool:
    """Let an effect of before the run was set back count for one asked since; return whether nothing is left to do.

    A tool that takes a key is called again under the first one's where nobody has seen the end. The caller holds the
    transaction.
    """
    Effect.objects.filter(pk=before.pk).update(taken_up_by=effect.pk)
    if before.status == Effect.Status.DONE:
        close_effect(effect, Effect.Status.DONE, result=before.result)
        return True
    if not effect.is_idempotent:
        close_effect(effect, Effect.Status.UNKNOWN, error=f"It was begun under {before.pk}, and nobody saw its end.")
        return True
    return False


def hold_family(run_id: str, approval_id: str) -> tuple[Effect, list[Effect]]:
    """Hold an effect and those that are the same call: what it took up after the run was set back, or was taken up by.

    The run's row is held first, as by whoever begins an effect or sets the run back: none joins the family meanwhile.
    """
    Run.objects.select_for_update(no_key=True).only("pk").get(pk=run_id)
    linked = Q(pk=approval_id) | ~Q(key="") | ~Q(taken_up_by="")
    held = Effect.objects.select_for_update().filter(linked, run_id=run_id).order_by("pk")
    rows = {one.pk: one for one in held}
    if approval_id not in rows:
        raise Effect.DoesNotExist(approval_id)
    effect = rows.pop(approval_id)
    call = effect.key or effect.pk
    family = [one for one in rows.values() if call in (one.pk, one.key)]
    if family:
        approvals.hold_all([effect.pk, *(one.pk for one in family)])  # before the record's chain is held
    return effect, family


def count_again(run_id: str, approval_ids: Sequence[str]) -> None:
    """Let effects count as done on the run's line again: a reset has returned to it, behind them.

    What took one up meanwhile was the same call; it lies on the other line now, and counts for nothing else there. The
    caller's transaction, which holds the run's row.
    """
    for approval_id in approval_ids:
        effect, family = hold_family(run_id, approval_id)
        Effect.objects.filter(pk__in=[one.pk for one in family]).update(taken_up_by=effect.pk)
        Effect.objects.filter(pk=effect.pk).update(is_set_back=False, taken_up_by="")


def close_with_twins(
    effect: Effect,
    family: list[Effect],
    status: str,
    *,
    result: dict[str, Any] | None = None,
    error: str = "",
    actor: str = "worker",
) -> None:
    """Write how an effect ended, and the same for those of its family that do not know: it was one call.

    The caller holds them all with their approvals, as `hold_family` gives them.
    """
    unknowing: tuple[str, ...] = ()
    if status == Effect.Status.DONE:
        unknowing = _OPEN
    elif status == Effect.Status.FAILED:
        unknowing = (Effect.Status.UNKNOWN,)  # one that is executing may be asked right now
    for one in (effect, *(twin for twin in family if twin.status in unknowing)):
        close_effect(one, status, result=result, error=error, actor=actor)


def close_effect(
    effect: Effect, status: str, *, result: dict[str, Any] | None = None, error: str = "", actor: str = "worker"
) -> None:
    """Write how an effect ended, with its receipt and its entry in the record. The caller holds the row's lock."""
    error = _kept(error)
    effect.status, effect.result, effect.error = status, _kept(result), error[:2000]
    effect.finished_at = DatabaseNow() if status != Effect.Status.UNKNOWN else None
    effect.save(update_fields=["status", "result", "error", "finished_at"])
    detail = {"done": "", "failed": f"failed: {error}", "unknown": f"outcome unknown: {error}"}[status]
    announce(f"run:{effect.run_id}", f"approval:{effect.pk}")
    approvals.note_effect(approval_id=effect.pk, event=status, detail=detail, actor=actor)


def _kept(answer: Any) -> Any:
    """Return what a tool answered as PostgreSQL can keep it: whatever it holds, the effect's end must be written."""
    if isinstance(answer, str):
        return storable(answer)
    if isinstance(answer, dict):
        return {_kept(str(key)): _kept(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [_kept(value) for value in answer]
    is_json = answer is None or isinstance(answer, bool | int) or (isinstance(answer, float) and math.isfinite(answer))
    return answer if is_json else _kept(str(answer))


def _read_approved(tool: Tool, arguments: dict[str, Any], digest: str) -> Any:
    """Return the tool's own object, or refuse when it would be another one than was approved.

    A release may have changed the tool's model, a default or a way of reading, since the proposal was frozen.
    """
    try:
        read = read_back(tool.arguments, arguments)
    except Unfit as exc:
        raise NotAuthorised(f"The tool {tool.name} does not take these arguments any more: {exc}"[:500]) from exc
    try:
        is_same = digest_of(canonicalise(tool.name, write_down(read))) == digest
    except Exception as exc:  # a serializer is the author's code, which may raise anything
        raise NotAuthorised(f"The tool {tool.name} cannot write the approved arguments down now: {exc}"[:500]) from exc
    if not is_same:
        raise NotAuthorised(f"The tool {tool.name} reads the approved arguments differently now.")
    return read


def _outcome(effect: Effect) -> Outcome:
    status: Any = str(effect.status)  # plain text: it goes into a checkpoint
    return Outcome(status=status, result=effect.result, reason=effect.error)
