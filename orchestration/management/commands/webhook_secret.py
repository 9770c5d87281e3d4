from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from orchestration import webhook_gateway


class Command(BaseCommand):
    help = "Print what webhooks are signed with; their receivers verify them with it, as Standard Webhooks say."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(webhook_gateway.secret())
