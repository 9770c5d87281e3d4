from __future__ import annotations

import time
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from dataplane.selectors import current_versions
from examples.shop.demo_orders import DEMO_RUNS
from orchestration import services
from orchestration.agents.registry import agents


class Command(BaseCommand):
    help = "Start the six demo runs, once the handbook that they read has been published."

    def handle(self, *args: Any, **options: Any) -> None:
        started_by = User.objects.filter(username="olga").first()
        if started_by is None:
            raise CommandError("The demo runs are started by olga. Make the demo accounts first.")
        if "support" not in agents():
            raise CommandError(
                "The demo runs are the support agent's, which SIGNALBOX_AGENTS leaves out. Add "
                "orchestration.agents.support.agent:AGENT to it for them."
            )
        deadline = time.monotonic() + 600
        while not current_versions(["handbook"]):
            if time.monotonic() > deadline:
                raise CommandError("The handbook was not published within ten minutes; see the Data page.")
            time.sleep(0.5)
        for number, given in enumerate(DEMO_RUNS, start=1):
            run, _ = services.start_run(
                agent="support",
                given=dict(given),
                requested_by=started_by,
                idempotency_key=f"demo-{given['order_id']}",
            )
            self.stdout.write(f"{number} {run.pk}")
