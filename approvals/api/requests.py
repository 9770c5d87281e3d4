"""Programs that ask for approvals, in the JSON API. The router of `approvals.api.approvals`: they share addresses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Schema, Status
from pydantic import AwareDatetime, ConfigDict, field_validator, model_validator

from approvals.api.approvals import approval_json, router
from approvals.reading import requests
from approvals.services import requesting
from approvals.services.requesting import ProgramRequest
from console.api_access import require
from console.text.stored import StoredText

__all__ = ["router"]

Name = Annotated[str, Field(min_length=1, max_length=200)]
Verdict = Literal["approve", "edit", "reject", "respond"]


class _Strict(Schema):
    model_config = ConfigDict(extra="forbid")


class TemporalIn(_Strict):
    """A signal to a workflow of the program's own."""

    workflow_id: Annotated[str, Field(min_length=1, max_length=1000)]
    signal: Name
    run_id: Name | None = None
    namespace: Name | None = None


class WebhookIn(_Strict):
    """A signed POST."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]


class DeliverTo(_Strict):
    """Where the answer goes: exactly one of the two."""

    temporal: TemporalIn | None = None
    webhook: WebhookIn | None = None

    @model_validator(mode="after")
    def one_of_them(self) -> DeliverTo:
        if (self.temporal is None) == (self.webhook is None):
            raise ValueError("name exactly one of temporal and webhook")
        return self


class ApprovalIn(_Strict):
    """A request to decide something. The same `external_id` with the same body finds the same approval."""

    title: Annotated[str, Field(min_length=1, max_length=500)]
    tool: Annotated[str, Field(min_length=1, max_length=100)]
    arguments: dict[str, Any]
    external_id: Name
    deliver_to: DeliverTo | None = None  # without it the program fetches its answer
    arguments_schema: dict[str, Any] | None = None
    verdicts: Annotated[list[Verdict], Field(min_length=1, max_length=4)] | None = None
    risk: Literal["low", "medium", "high"] = "high"
    agent_words: Annotated[str, Field(max_length=20_000)] = ""
    audience: Annotated[list[Annotated[str, Field(min_length=1, max_length=150)]], Field(max_length=50)] | None = None
    due_at: AwareDatetime | None = None  # RFC 3339 with its zone
    #: whether it will say what came of it, and be missed in the lane when it does not; by itself where it fetches
    reports_outcome: bool | None = None

    @field_validator("due_at", mode="before")
    @classmethod
    def only_text(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str):
            raise ValueError("a moment is written as text, like 2026-11-24T18:00:00Z")
        return value


class WithdrawIn(_Strict):
    """Why the request is no longer needed; for the record."""

    reason: Annotated[StoredText, Field(min_length=1, max_length=500)]


@router.post("/approvals", response={200: Any, 201: Any})
def request_approval(request: HttpRequest, body: ApprovalIn) -> Status[dict[str, Any]]:
    """Ask for an approval. 201 when it is new, 200 when the same was asked under this `external_id` before."""
    user = require(request, "request_approval")
    approval, is_new = requesting.request_approval(asked=_asked(request, body), requested_by=user)
    shown = requests.approval_for(user, approval.pk)
    return Status(201 if is_new else 200, approval_json(request, shown))


def _asked(request: HttpRequest, body: ApprovalIn) -> ProgramRequest:
    return ProgramRequest(
        title=body.title,
        tool=body.tool,
        arguments=body.arguments,
        external_id=body.external_id,
        deliver_to=body.deliver_to.dict(exclude_none=True) if body.deliver_to else None,
        arguments_schema=body.arguments_schema or {},
        verdicts=tuple(dict.fromkeys(body.verdicts or ())),
        risk=body.risk,
        agent_words=body.agent_words,
        audience=tuple(dict.fromkeys(body.audience or ())),
        due_at=body.due_at,
        reports_outcome=body.reports_outcome,
    )


@router.post("/approvals/{approval_id}/withdraw")
def withdraw(request: HttpRequest, approval_id: str, body: WithdrawIn) -> dict[str, Any]:
    """Take back a request of one's own; its answer then says `withdrawn`."""
    user = require(request, "request_approval")
    requesting.take_back(approval_id=approval_id, by=user, reason=body.reason)
    return approval_json(request, requests.approval_for(user, approval_id))
