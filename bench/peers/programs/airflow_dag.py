"""Read by Airflow in its own environment: a task that waits for a person, and the next one."""

from __future__ import annotations

import time

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, task

with DAG("wait", schedule=None, catchup=False):
    ask = ApprovalOperator(task_id="ask", subject="Go on?", body="What is proposed. " * 20)

    @task
    def next_step() -> int:
        return time.monotonic_ns()

    ask >> next_step()
