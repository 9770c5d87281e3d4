"""The policy: versions of a list of rules, and the calendars that its deadlines are counted by."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from console.clock import DatabaseNow


class PolicyVersion(models.Model):
    """A whole list of rules. At most one version is active; `rules` of a version never change."""

    class State(models.TextChoices):
        PROPOSED = "proposed"  # waits for a second admin
        ACTIVE = "active"
        REPLACED = "replaced"
        REFUSED = "refused"  # the second admin said no, or its maker took it back

    version = models.PositiveIntegerField(primary_key=True)
    rules = models.JSONField()  # see approvals.policies
    calendars = models.JSONField(default=dict)  # {name: {"timezone", "hours", "holidays"}}
    state = models.CharField(max_length=10, choices=State, default=State.PROPOSED)
    note = models.CharField(max_length=500)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField(db_default=DatabaseNow())
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("state",), condition=Q(state="active"), name="one_active_policy"),
            models.UniqueConstraint(fields=("state",), condition=Q(state="proposed"), name="one_proposed_policy"),
        )

    def __str__(self) -> str:
        return f"policy {self.version} ({self.state})"
