"""The failure tests and their last results.

`manage.py drill` runs them against a stack of its own and stores each result in the database it was started
beside, so that the System page and the README tell what was really run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from console.models import DrillResult


@dataclass(frozen=True)
class FailureTest:
    """One fault, and the sentence that must hold after it."""

    name: str
    invariant: str


FAILURE_TESTS = (
    FailureTest(
        "worker-killed",
        "The run goes on from its last checkpoint; the refund happens once, the e-mail at most once",
    ),
    FailureTest("host-killed", "Another worker, or the same engine restarted, finishes the run; nothing is done twice"),
    FailureTest(
        "approval-stalled",
        "Days pass at no cost; a late decision works, silence expires and the agent is told so",
    ),
    FailureTest(
        "ended-outside",
        "What is ended past the console is closed with why; no decision is lost, and programs get their answer",
    ),
    FailureTest(
        "reset-and-fork",
        "A run is reset, forked, retried, cancelled or ended while processes die: what happens is what was told before",
    ),
    FailureTest("same-input", "The same start, decision or signal again: one run, one decision, one effect"),
    FailureTest(
        "mutated-proposal",
        "What is shown is what runs: a proposal that is changed on its way is not decided, or not executed",
    ),
    FailureTest(
        "code-changed",
        "An agent's code changes while its runs wait: they go on rightly or fail as that; none ends green undone",
    ),
    FailureTest(
        "same-refresh",
        "The same refresh again, at once or later or killed in between: one version, one write",
    ),
)


def failure_tests() -> list[dict[str, Any]]:
    """Return each failure test with its last result; nulls where it has not run here yet."""
    last = {result.name: result for result in DrillResult.objects.order_by("name", "-ran_at").distinct("name")}
    rows = []
    for test in FAILURE_TESTS:
        result = last.get(test.name)
        rows.append(
            {
                "name": test.name,
                "invariant": test.invariant,
                "last_run_at": result.ran_at if result else None,
                "trials": result.trials if result else None,
                "failures": result.failures if result else None,
            }
        )
    return rows
