"""What a model that was trained on earlier decisions expects of an open request. Shown and sorted by, nothing else.

Written by the data plane through `signalbox_note_outlook`, read where requests are shown. No policy, rule, default,
permission, digest or record knows of it: tests hold that.
"""

from __future__ import annotations

from django.db import models

from approvals.models.requests import Approval
from console.clock import DatabaseNow


class Outlook(models.Model):
    """The newest word about one version of one request."""

    approval = models.OneToOneField(Approval, on_delete=models.CASCADE, primary_key=True, related_name="outlook")
    version = models.PositiveIntegerField()  # of the request
    percent = models.PositiveSmallIntegerField()  # of such requests that people approve as they were proposed
    model_version = models.PositiveIntegerField()  # of the dataset verdict_model
    at = models.DateTimeField(db_default=DatabaseNow())

    def __str__(self) -> str:
        return f"{self.approval_id}: {self.percent} %"
