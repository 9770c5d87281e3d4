"""What the agent plane answers to the other apps, which know no engine and no agent. See `console.ports`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.urls import reverse

from approvals.models import Approval
from approvals.proposal.canonical import from_jsonb
from console.contracts import Contracts
from console.lists.capped import COUNT_CAP
from console.ports import (
    AgentFault,
    CheckedArguments,
    Executed,
    Found,
    ShownFinding,
    ShownServer,
    ToolFacts,
    Use,
    UsedRequest,
)
from orchestration import findings as findings_kept
from orchestration import outcomes, selectors, signal_pairs, signal_rules, webhook_gateway
from orchestration import thinking_again as wishes
from orchestration.agent_servers import told as servers_told
from orchestration.agents.arguments import Unfit, asked_schema, read_asked
from orchestration.agents.registry import agents, faults
from orchestration.contracts import CONTRACTS
from orchestration.models import Effect, Run
from orchestration.redrive import settle_unknown as settle_unknown
from orchestration.redrive import standstill_of as standstill_of
from orchestration.services import redeliver as redeliver
from orchestration.signal_pairs import note_first_use as note_first_use

# To approvals


def effects_of(approval_ids: Sequence[str]) -> dict[str, Executed]:
    found = {effect.pk: _executed(effect) for effect in Effect.objects.filter(pk__in=approval_ids)}
    return found | outcomes.executed(approval_ids)


def done_before(run_id: str, tool: str) -> dict[str, Executed]:
    stands = Effect.objects.filter(run_id=run_id, tool=tool, is_set_back=True, taken_up_by="")
    stands = stands.exclude(status=Effect.Status.FAILED).order_by("started_at", "pk")
    return {effect.pk: _executed(effect) for effect in stands}


def _executed(effect: Effect) -> Executed:
    return {
        "status": effect.status,
        "tool": effect.tool,
        "digest": effect.digest,
        "arguments": from_jsonb(effect.arguments),
        "result": effect.result,
        "error": effect.error,
        "attempts": effect.attempts,
        "started_at": effect.started_at,
        "finished_at": effect.finished_at,
        "reported_by": None,
    }


def runs_there(run_ids: Sequence[str]) -> set[str]:
    return set(Run.objects.filter(pk__in=run_ids).values_list("pk", flat=True))


def thinking_again(run_id: str) -> str:
    return wishes.told(run_id)


def why_ended(run_id: str) -> str:
    error = Run.objects.filter(pk=run_id, closed_at__isnull=False).values_list("error", flat=True).first()
    return str((error or {}).get("message", ""))


def check_arguments(agent: str, tool: str, arguments: dict[str, Any]) -> CheckedArguments:
    registered = agents().get(agent)
    known = registered.tool(tool) if registered else None
    if known is None:
        message = f"The tool {tool} is not registered now, so a change of its arguments cannot be checked."
        return CheckedArguments(arguments, "", [{"path": "", "message": message}])
    try:
        read = read_asked(known.arguments, known.name, arguments)
    except Unfit as exc:
        return CheckedArguments(arguments, "", exc.errors)
    return CheckedArguments(read.arguments, known.sentence(read.model), [])


def tool_facts(agent: str, tool: str, arguments: dict[str, Any]) -> tuple[ToolFacts | None, str]:
    registered = agents().get(agent)
    known = registered.tool(tool) if registered else None
    if registered is None or known is None:
        return None, ""
    try:
        read = read_asked(known.arguments, known.name, arguments)
    except Unfit as exc:
        return None, f"The tool does not take these arguments: {exc}"
    summary, owners = known.sentence(read.model), tuple(registered.owners)
    return ToolFacts(known.risk, read.arguments, asked_schema(known), summary, owners), ""


def webhook_refusal(url: str) -> str:
    return webhook_gateway.refusal_of(url)


def signal_refusal(account: str, temporal: Mapping[str, str]) -> str:
    return signal_rules.refusal_of(account, temporal)


# The engines' SDKs are loaded when somebody asks: no page waits for them.


def history_of_row(run_id: str) -> dict[str, Any]:
    from orchestration import histories

    return histories.run(run_id)


def history_in_temporal(run_id: str) -> list[dict[str, Any]]:
    from orchestration import histories

    return histories.temporal(run_id)


def history_in_checkpoints(run_id: str) -> list[dict[str, Any]]:
    from orchestration import histories

    return histories.checkpoints(run_id)


# To the data plane


def agents_reading(dataset: str) -> list[str]:
    return [agent.name for agent in agents().values() if dataset in agent.reads]


def uses_of(dataset: str, version: int, limit: int) -> list[Use]:
    read = [{"dataset": dataset, "version": version}]
    runs = list(Run.objects.filter(dataset_versions__contains=read).order_by("-created_at")[:limit])
    requests: dict[str, list[UsedRequest]] = {run.pk: [] for run in runs}
    for one in Approval.objects.filter(run_id__in=list(requests), dataset_versions__contains=read).order_by(
        "opened_at"
    ):
        url = reverse("approvals:approval", args=[one.pk])
        requests[one.run_id].append({"id": one.pk, "title": one.summary, "status": one.status, "url": url})
    return [
        {
            "run_id": run.pk,
            "agent": run.agent,
            "status": run.status,
            "is_open": run.closed_at is None,
            "url": reverse("orchestration:run", args=[run.pk]),
            "requests": requests[run.pk],
        }
        for run in runs
    ]


# To the frame


def stuck_count() -> int:
    return Run.objects.exclude(cause="").order_by()[:COUNT_CAP].count()


def waiting_signals() -> int:
    return signal_pairs.waiting_count()


def agent_faults() -> list[AgentFault]:
    return faults()


def agent_servers() -> list[ShownServer]:
    return servers_told.servers()


def findings() -> list[ShownFinding]:
    return findings_kept.told()


def found(user: User, words: str) -> list[Found]:
    return [
        {
            "title": row.run.pk,
            "icon": "workflow",
            "hint": f"run, {row.run.get_status_display().lower()}",
            "url": reverse("orchestration:run", args=[row.run.pk]),
        }
        for row in selectors.runs_page(user, search=words, limit=5).rows
    ]


def contracts() -> Contracts:
    return CONTRACTS
