from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from approvals.record.heads import Publisher


class Command(BaseCommand):
    help = "Write the head of the audit chain down outside the database now; the relay does so once a minute."

    def handle(self, *args: Any, **options: Any) -> None:
        head = Publisher().step()
        if head is None:
            self.stdout.write("The record has no entry yet.")
        else:
            self.stdout.write(f"Entry {head.seq} is the newest; {settings.AUDIT_HEADS_FILE} holds its digest:")
            self.stdout.write(head.digest)
