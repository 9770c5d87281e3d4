"""The record that cannot be changed quietly."""

from __future__ import annotations

import pgtrigger
from django.db import models


class AuditEvent(models.Model):
    """One entry of the hash chain; see `approvals.record.audit`. The database refuses to change or remove it."""

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
            models.Index(fields=("at",), name="audit_by_time"),
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
