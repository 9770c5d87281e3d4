"""What people decided, and how far each decision has travelled."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q

from approvals.models.requests import Approval, Verdict
from console.clock import DatabaseNow
from console.ids import new_id


def new_decision_id() -> str:
    return new_id("dec")


class Decision(models.Model):
    """One verdict, with the digest that was seen. Never changed, never removed.

    A person's, or the policy's own (`by` is null) or a standing approval's (`by` is who made it): see `source`.
    """

    id = models.CharField(primary_key=True, max_length=40, default=new_decision_id)
    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="decisions")
    #: 1, 2, ... within the approval, set by the database under the approval's lock. `at` is when the transaction
    #: began, which for two at once may be the other way round.
    number = models.PositiveSmallIntegerField(default=0, editable=False)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    on_behalf_of = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # whose right it was, when a delegate decided
    source = models.CharField(max_length=200, blank=True)  # "", "standing:<id>" or "policy:<rule>@<version>"
    verdict = models.CharField(max_length=10, choices=Verdict)
    note = models.TextField(blank=True)
    version = models.PositiveIntegerField()  # what was shown
    digest = models.CharField(max_length=64)
    for_version = models.PositiveIntegerField()  # what it speaks for: the same, or the version that the edit made
    for_digest = models.CharField(max_length=64)
    edited_arguments = models.JSONField(null=True, blank=True)  # for the verdict `edit`
    answer = models.JSONField(null=True, blank=True)  # for the verdict `respond`
    channel = models.CharField(max_length=20)  # page, api, bulk, standing or policy
    dwell_ms = models.PositiveIntegerField(null=True, blank=True)  # between seeing and deciding, on pages
    idempotency_key = models.CharField(max_length=200, blank=True)
    body_digest = models.CharField(max_length=64)  # of what was asked; the same key with another body is refused
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("approval", "for_version", "by"), name="one_decision_per_person"),
            models.UniqueConstraint(fields=("approval", "number"), name="decisions_in_order"),
            models.UniqueConstraint(
                fields=("by", "idempotency_key"),
                condition=~Q(idempotency_key=""),
                name="one_decision_per_key",
            ),
        )
        indexes = (
            models.Index(
                fields=(
                    "by",
                    "-at",
                ),
                name="decision_by_person",
            ),
            models.Index(fields=("source",), condition=~Q(source=""), name="decision_by_source"),
        )
        triggers = (
            pgtrigger.Protect(name="decision_stays", operation=pgtrigger.Update | pgtrigger.Delete),
            pgtrigger.Trigger(
                name="decision_number",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert,
                func=(
                    "SELECT coalesce(max(number), 0) + 1 INTO NEW.number FROM approvals_decision"
                    " WHERE approval_id = NEW.approval_id; RETURN NEW;"
                ),
            ),
        )

    def __str__(self) -> str:
        return f"{self.verdict} by {self.by_id}"

    @property
    def by_name(self) -> str:
        """Return who decided, as people read it: a name, or what decided without one."""
        return self.by.username if self.by else "the policy"


class ReceiptStep(models.Model):
    """How far a decision has travelled."""

    class Step(models.TextChoices):
        RECORDED = "recorded"
        SIGNALLED = "signalled"
        RESUMED = "resumed"
        EFFECT_STARTED = "effect_started"
        EFFECT_FINISHED = "effect_finished"
        # Off the straight way, so that `effect_finished` never says more than it knows:
        REFUSED = "refused"  # the ledger found no approval that covers the effect; the detail is its reason
        SET_ASIDE = "set_aside"  # a person took it out of the lane; the detail says who and why

    approval = models.ForeignKey(Approval, on_delete=models.CASCADE, related_name="receipt")
    step = models.CharField(max_length=20, choices=Step)
    detail = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("approval", "step"), name="each_step_once"),)

    def __str__(self) -> str:
        return f"{self.approval_id} {self.step}"
