"""How far a decision has travelled, as its page shows it: one line for each step, and where and why it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from django.db.models import Q

from approvals.models import Approval, Decision, ReceiptStep
from approvals.people.permissions import AGREEING
from console import ports
from console.clock import DatabaseNow
from console.ports import Standstill

Step = ReceiptStep.Step
State = Literal["done", "next", "stopped", "aside", "ahead"]


@dataclass(frozen=True)
class ReceiptLine:
    """One step of a receipt; `at` is `None` while it lies ahead."""

    step: str
    title: str
    at: datetime | None
    detail: str
    state: State = "ahead"
    within_seconds: int = 0  # for `next`: how long after the step before it is expected
    standstill: Standstill | None = None  # for `stopped`


_TITLES = {
    Step.RECORDED: "Recorded",
    Step.SIGNALLED: "Signalled to the run",
    Step.RESUMED: "Run resumed",
    Step.EFFECT_STARTED: "Effect started",
    Step.EFFECT_FINISHED: "Effect finished",
    # Off the straight way:
    Step.REFUSED: "Effect refused",
    Step.SET_ASIDE: "Set aside",
}
_ON_SERVER = {Step.SIGNALLED: "Taken by its agent server", Step.RESUMED: "Thread went on"}
_STOPPED = {Step.REFUSED: "Effect refused", Step.EFFECT_FINISHED: "Effect failed"}


def receipt_of(approval: Approval, decision: Decision | None) -> list[ReceiptLine]:
    """Return the steps in order, those ahead too; an answer that causes no effect ends when it was heard.

    The approval's receipt is loaded. Costs a query while the decision is on its way, and a few while it stands still.
    """
    is_answered = approval.source == Approval.Source.PROGRAM and not approval.is_open
    if approval.is_open or (decision is None and not is_answered):
        return []  # votes that are not enough yet travel nowhere
    reached = {step.step: step for step in approval.receipt.all()}
    why = standstill(approval)
    lines: list[ReceiptLine] = []
    for step in _steps(approval, decision, reached):
        if step in reached:
            lines.append(_reached(approval, reached[step], why))
        else:
            lines.append(ReceiptLine(step, _title(approval, step), None, ""))
    newest = max((place for place, line in enumerate(lines) if line.at and line.state != "aside"), default=-1)
    if newest + 1 < len(lines) and lines[newest + 1].at is None and not any(line.state == "stopped" for line in lines):
        lines[newest + 1] = _next(approval, lines[newest + 1], lines[newest].at, why)
    return lines


def _steps(approval: Approval, decision: Decision | None, reached: dict[str, ReceiptStep]) -> list[str]:
    steps = [Step.RECORDED, Step.SIGNALLED, Step.RESUMED]
    if approval.source == Approval.Source.PROGRAM:
        steps = [Step.RECORDED, Step.RESUMED] if decision else [Step.RESUMED]  # silence is an answer too
        agrees = decision is not None and decision.verdict in AGREEING
        if Step.EFFECT_FINISHED in reached or (agrees and approval.asked.get("reports")):
            steps.append(Step.EFFECT_FINISHED)
    elif decision and decision.verdict in AGREEING and approval.kind == Approval.Kind.ACTION and approval.is_tracked:
        is_refused = Step.REFUSED in reached and Step.EFFECT_STARTED not in reached
        steps += [Step.REFUSED] if is_refused else [Step.EFFECT_STARTED, Step.EFFECT_FINISHED]
    elif Step.REFUSED in reached:  # the agent held another call
        steps += [Step.REFUSED]
    return [str(step) for step in steps] + ([str(Step.SET_ASIDE)] if Step.SET_ASIDE in reached else [])


def _title(approval: Approval, step: str) -> str:
    if approval.source == Approval.Source.PROGRAM and step == Step.RESUMED:
        return "Fetched by the program" if approval.is_fetched else "Delivered to the program"
    if approval.source == Approval.Source.PROGRAM and step == Step.EFFECT_FINISHED:
        return "Reported by the program"
    if approval.agent_server and step in _ON_SERVER:
        return _ON_SERVER[Step(step)]
    return _TITLES[Step(step)]


def _reached(approval: Approval, step: ReceiptStep, why: Standstill | None) -> ReceiptLine:
    line = ReceiptLine(step.step, _title(approval, step.step), step.at, step.detail, "done")
    if step.step == Step.SET_ASIDE:
        return replace(line, state="aside")
    if step.step == Step.REFUSED or (step.step == Step.EFFECT_FINISHED and approval.took_effect_at is None):
        title = _STOPPED[Step(step.step)] if approval.source == Approval.Source.AGENT else line.title
        return replace(line, state="stopped", standstill=why, title=title)
    return line


def _next(approval: Approval, line: ReceiptLine, before: datetime | None, why: Standstill | None) -> ReceiptLine:
    """Return the first step ahead: stopped with its cause, or on its way with the time that it may take."""
    if why is not None:
        return replace(line, state="stopped", standstill=why)
    if approval.expected_by is None or before is None:
        return line
    return replace(line, state="next", within_seconds=max(0, round((approval.expected_by - before).total_seconds())))


def is_late() -> Q:
    """Return the filter for decisions that stand still now, by the database's clock."""
    return Q(expected_by__lte=DatabaseNow())


def standstill(approval: Approval) -> Standstill | None:
    """Return why one decision stands still, `None` while it does not. One query, and the agent plane's where it is."""
    if approval.expected_by is None or not Approval.objects.filter(is_late(), pk=approval.pk).exists():
        return None
    return standstills_of([approval.pk]).get(approval.pk) or not_known(approval)


def standstills_of(approval_ids: Sequence[str]) -> dict[str, Standstill]:
    """Return why decisions stand still, by approval id: who carries them out is asked. Those it knows none of lack."""
    return ports.agent_plane().standstill_of(approval_ids) if approval_ids else {}


def not_known(approval: Approval) -> Standstill:
    """Return the standstill of a decision that is late, where nobody knows why."""
    sentence = "It should have taken effect by now, and nothing here says why it has not."
    return Standstill("not_known", sentence, _since(approval), may_deliver=True)


def _since(approval: Approval) -> datetime:
    """Return from when on a late decision has stood still."""
    assert approval.expected_by is not None
    return approval.expected_by
