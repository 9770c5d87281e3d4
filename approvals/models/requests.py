"""Requests to decide."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from console.ids import new_id


def new_approval_id() -> str:
    return new_id("apr")


class Risk(models.TextChoices):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Verdict(models.TextChoices):
    APPROVE = "approve"
    EDIT = "edit"
    REJECT = "reject"
    RESPOND = "respond"


class Approval(models.Model):
    """A request to decide one proposal. `canonical` is the truth; everything shown is rendered from it."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DECIDED = "decided"
        EXPIRED = "expired"  # nobody decided in time; not a rejection
        WITHDRAWN = "withdrawn"  # the run ended first

    class Kind(models.TextChoices):
        ACTION = "action"  # may the agent do this?
        OUTCOME = "outcome"  # did an effect whose end nobody saw happen? approve = it did, reject = it did not

    id = models.CharField(primary_key=True, max_length=40, default=new_approval_id)
    external_id = models.CharField(max_length=300, unique=True)  # run id + interrupt id: a retry opens nothing twice
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.ACTION)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    version = models.PositiveIntegerField(default=1)  # of the proposal; an edit makes a new one
    canonical = models.BinaryField()  # RFC 8785 JSON, see approvals.digest
    digest = models.CharField(max_length=64)  # hex SHA-256 of canonical

    tool = models.CharField(max_length=100)
    summary = models.CharField(max_length=500)  # the action in one sentence, by the tool's own renderer
    agent_words = models.TextField(blank=True)  # untrusted
    arguments_schema = models.JSONField(default=dict)
    risk = models.CharField(max_length=10, choices=Risk, default=Risk.HIGH)

    agent = models.CharField(max_length=100)
    run_id = models.CharField(max_length=200, db_index=True)  # = Temporal workflow id = LangGraph thread id
    interrupt_id = models.CharField(max_length=100)
    checkpoint_id = models.CharField(max_length=100, blank=True)
    dataset_versions = models.JSONField(default=list)  # [{"dataset", "version"}] read before proposing
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )  # who started the run; never decides it

    policy_version = models.CharField(max_length=40)
    audience = models.JSONField(default=list)  # roles
    verdicts = models.JSONField(default=list)  # allowed ones
    needed = models.PositiveSmallIntegerField(default=1)
    ladder = models.JSONField(default=list)  # [{"step": remind|escalate|expire, "at": RFC 3339}], in order
    steps_climbed = models.PositiveSmallIntegerField(default=0)

    opened_at = models.DateTimeField()
    due_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (
            models.Index(
                fields=(
                    "due_at",
                    "id",
                ),
                condition=Q(status="pending"),
                name="approval_pending",
            ),
            models.Index(
                fields=(
                    "-closed_at",
                    "-id",
                ),
                condition=~Q(status="pending"),
                name="approval_closed",
            ),
            models.Index(
                fields=(
                    "status",
                    "-opened_at",
                    "-id",
                ),
                name="approval_by_status",
            ),
        )

    def __str__(self) -> str:
        return f"{self.id} {self.summary}"
