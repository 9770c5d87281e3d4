"""Requests to decide, what people decided, and the record that cannot be changed quietly."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q

from console.clock import DatabaseNow
from console.ids import new_id


def new_approval_id() -> str:
    return new_id("apr")


def new_decision_id() -> str:
    return new_id("dec")


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


class Decision(models.Model):
    """One person's verdict, with the digest they saw. Never changed, never removed."""

    id = models.CharField(primary_key=True, max_length=40, default=new_decision_id)
    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="decisions")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=10, choices=Verdict)
    note = models.TextField(blank=True)
    version = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    edited_arguments = models.JSONField(null=True, blank=True)  # for the verdict `edit`
    answer = models.JSONField(null=True, blank=True)  # for the verdict `respond`
    channel = models.CharField(max_length=20)  # page or api
    idempotency_key = models.CharField(max_length=200, blank=True)
    body_digest = models.CharField(max_length=64)  # of what was asked; the same key with another body is refused
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("approval", "by"), name="one_decision_per_person"),
            models.UniqueConstraint(
                fields=("by", "idempotency_key"),
                condition=~Q(idempotency_key=""),
                name="one_decision_per_key",
            ),
        )
        triggers = (pgtrigger.Protect(name="decision_stays", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.verdict} by {self.by_id}"


class ReceiptStep(models.Model):
    """How far a decision has travelled."""

    class Step(models.TextChoices):
        RECORDED = "recorded"
        SIGNALLED = "signalled"
        RESUMED = "resumed"
        EFFECT_STARTED = "effect_started"
        EFFECT_FINISHED = "effect_finished"

    approval = models.ForeignKey(Approval, on_delete=models.CASCADE, related_name="receipt")
    step = models.CharField(max_length=20, choices=Step)
    detail = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("approval", "step"), name="each_step_once"),)

    def __str__(self) -> str:
        return f"{self.approval_id} {self.step}"


class AuditEvent(models.Model):
    """One entry of the hash chain; see `approvals.audit`. The database refuses to change or remove it."""

    seq = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    actor = models.CharField(max_length=150)  # user name, or the part that acted: worker, relay
    kind = models.CharField(max_length=60)
    subject = models.CharField(max_length=200)  # approval or run id
    body = models.JSONField()
    previous = models.CharField(max_length=64)  # digest of the entry before, "" for the first
    digest = models.CharField(max_length=64, unique=True)

    class Meta:
        indexes = (
            models.Index(
                fields=(
                    "subject",
                    "seq",
                ),
                name="audit_by_subject",
            ),
            models.Index(
                fields=(
                    "actor",
                    "seq",
                ),
                name="audit_by_actor",
            ),
        )
        triggers = (
            pgtrigger.Protect(name="audit_stays", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="audit_whole",
                level=pgtrigger.Statement,
                when=pgtrigger.Before,
                operation=pgtrigger.Truncate,
                func="RAISE EXCEPTION 'pgtrigger: Cannot truncate rows from approvals_auditevent table';",
            ),
        )

    def __str__(self) -> str:
        return f"{self.seq} {self.kind} {self.subject}"
