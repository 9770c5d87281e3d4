from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate

from console import app_role


class Command(migrate.Command):
    help = "Bring the tables up to date, as their owner, and give the app's role its rights on them."

    def handle(self, *args: Any, **options: Any) -> None:
        with app_role.as_owner() as role:
            super().handle(*args, **options)
            if role:
                app_role.grant(role, "public")
