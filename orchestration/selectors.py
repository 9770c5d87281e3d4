"""What pages, the API and other layers read about runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, QuerySet
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from approvals import selectors as approval_selectors
from approvals.edits import Checked
from approvals.models import Approval
from approvals.services.seeding import ToolFacts
from console import roles
from console.keyset import make_cursor, read_cursor
from orchestration.agents.registry import agents
from orchestration.errors import NoSuchRun
from orchestration.models import Effect, Run


def visible_to(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Run]:
    """Return the runs that the user may see: all with a role that sees, a service account its own."""
    if roles.may(user, "see"):
        return Run.objects.all()
    if roles.has_role(user, "service"):
        return Run.objects.filter(requested_by_id=user.pk)
    return Run.objects.none()


def run_for(user: AbstractBaseUser | AnonymousUser, run_id: str) -> Run:
    """Return one run. Raises NoSuchRun, also for what may not be seen."""
    found = visible_to(user).select_related("requested_by").filter(pk=run_id).first()
    if found is None:
        raise NoSuchRun(NoSuchRun.__doc__)
    return found


@dataclass(frozen=True)
class RunRow:
    """One line of the runs list."""

    run: Run
    waiting_for: list[str]  # ids of pending approvals, oldest first


@dataclass(frozen=True)
class Page:
    """One page of runs; `next_cursor` is `None` at the end."""

    rows: list[RunRow]
    next_cursor: str | None


def runs_page(
    user: AbstractBaseUser | AnonymousUser,
    *,
    status: str = "",
    agent: str = "",
    search: str = "",
    cursor: str = "",
    limit: int = 50,
) -> Page:
    """Return one page of runs, newest first. Two queries, whatever the page size; keyset, never an offset."""
    rows = visible_to(user).select_related("requested_by")
    if status:
        rows = rows.filter(status=status)
    if agent:
        rows = rows.filter(agent=agent)
    for word in search.split()[:8]:
        rows = rows.filter(Q(id__icontains=word) | Q(input__icontains=word))
    if (after := read_cursor(cursor)) is not None:
        moment, last_id = after
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, id__lt=last_id))
    found = list(rows.order_by("-created_at", "-id")[: limit + 1])
    last = found[limit - 1] if len(found) > limit else None
    shown = found[:limit]
    waiting = approval_selectors.waiting_of_runs([run.pk for run in shown])
    return Page(
        [RunRow(run, waiting.get(run.pk, [])) for run in shown],
        make_cursor(last.created_at, last.pk) if last else None,
    )


@dataclass(frozen=True)
class RunStory:
    """What the run page shows beside the run itself."""

    run: Run
    approvals: list[Approval]
    effects: list[Effect]

    @property
    def waiting_for(self) -> list[Approval]:
        return [approval for approval in self.approvals if approval.status == Approval.Status.PENDING]


def story_of(run: Run) -> RunStory:
    """Return a run's approvals and effects. Three queries."""
    return RunStory(run, approval_selectors.approvals_of_run(run.pk), list(run.effects.order_by("started_at")))


def effects_of(approval_ids: list[str]) -> dict[str, dict[str, Any]]:
    """Return what was executed under each approval; those without an effect are left out."""
    return {
        effect.pk: {
            "status": effect.status,
            "tool": effect.tool,
            "digest": effect.digest,
            "arguments": effect.arguments,
            "result": effect.result,
            "error": effect.error,
            "attempts": effect.attempts,
            "started_at": effect.started_at,
            "finished_at": effect.finished_at,
        }
        for effect in Effect.objects.filter(pk__in=approval_ids)
    }


def check_arguments(approval: Approval, arguments: dict[str, Any]) -> Checked:
    """Check arguments against the tool that the approval is about, as its own model and its own renderer see them.

    A program's tool is known by its schema only. Asked by name from `approvals`, which knows no agent.
    """
    if approval.source == Approval.Source.PROGRAM:
        return Checked(arguments, approval.summary, _schema_errors(approval.arguments_schema, arguments))
    agent = agents().get(approval.agent)
    tool = agent.tool(approval.tool) if agent else None
    if tool is None:
        message = f"The tool {approval.tool} is not registered now, so a change of its arguments cannot be checked."
        return Checked(arguments, "", [{"path": "", "message": message}])
    try:
        read = tool.arguments.model_validate(arguments)
    except ValidationError as exc:
        errors = [{"path": ".".join(str(part) for part in one["loc"]), "message": one["msg"]} for one in exc.errors()]
        return Checked(arguments, "", errors)
    return Checked(read.model_dump(mode="json"), tool.render(read), [])


def tool_facts(agent: str, tool: str, arguments: dict[str, Any]) -> tuple[ToolFacts | None, str]:
    """Return what a registered tool makes of arguments, or what is wrong with them; `None` for an unknown tool.

    Asked by name from `approvals`, for tests of attention that look like what the agent would ask.
    """
    registered = agents().get(agent)
    known = registered.tool(tool) if registered else None
    if known is None:
        return None, ""
    try:
        read = known.arguments.model_validate(arguments)
    except ValidationError as exc:
        return None, f"The tool does not take these arguments: {exc.errors()[0]['msg']}."
    shown = read.model_dump(mode="json")
    return ToolFacts(known.risk, shown, known.arguments.model_json_schema(), known.render(read)), ""


def _schema_errors(schema: dict[str, Any], arguments: dict[str, Any]) -> list[dict[str, str]]:
    if not schema:
        return []
    faults = Draft202012Validator(schema).iter_errors(arguments)
    return [{"path": ".".join(str(part) for part in fault.absolute_path), "message": fault.message} for fault in faults]


def agents_reading(dataset: str) -> list[str]:
    """Return the names of the registered agents that read the dataset."""
    return [agent.name for agent in agents().values() if dataset in agent.reads]
