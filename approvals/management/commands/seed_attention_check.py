from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser

from approvals import services
from approvals.errors import ApprovalError


class Command(BaseCommand):
    help = (
        "Put a harmless request that should be rejected among the real ones, to see whether people read. "
        "It is never executed; whoever decides it is told afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent")
        parser.add_argument("tool")
        parser.add_argument("--by", required=True, help="the admin who makes it")
        parser.add_argument("--arguments", default="{}", help="JSON object")
        parser.add_argument("--summary", default="", help="one sentence, for a tool that is not registered")
        parser.add_argument("--words", default="", help="what the agent would say of it")
        parser.add_argument("--requested-by", default="", help="who seems to have started the run; else the admin")

    def handle(self, *args: Any, **options: Any) -> None:
        by = self._account(options["by"])
        try:
            arguments = json.loads(options["arguments"])
        except ValueError as exc:
            raise CommandError(f"--arguments is not JSON: {exc}") from exc
        if not isinstance(arguments, dict):
            raise CommandError("--arguments has to be a JSON object.")
        try:
            opened = services.seed_attention_check(
                agent=options["agent"],
                tool=options["tool"],
                arguments=arguments,
                summary=options["summary"],
                agent_words=options["words"],
                requested_by=self._account(options["requested_by"] or options["by"]),
                by=by,
            )
        except ApprovalError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(opened.pk)

    def _account(self, username: str) -> User:
        found = User.objects.filter(username=username, is_active=True).first()
        if found is None:
            raise CommandError(f"There is no active user {username!r}.")
        return found
