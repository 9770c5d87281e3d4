from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from orchestration import checkpoint_gateway


class Command(BaseCommand):
    help = "Make LangGraph's own tables in the schema `agent`; safe to repeat and to run twice at once."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(checkpoint_gateway.setup())
