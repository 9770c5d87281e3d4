from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from psycopg.errors import InsufficientPrivilege

from console import app_role
from orchestration import checkpoint_gateway


class Command(BaseCommand):
    help = "Make LangGraph's own tables in the schema `agent`; safe to repeat and to run twice at once."

    def handle(self, *args: Any, **options: Any) -> None:
        with app_role.as_owner() as role:
            try:
                asyncio.run(checkpoint_gateway.setup())
            except InsufficientPrivilege as exc:
                raise CommandError(app_role.what_is_missing(str(exc))) from exc
            if role:
                app_role.grant(role, checkpoint_gateway.SCHEMA)
