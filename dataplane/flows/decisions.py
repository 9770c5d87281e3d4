"""The tasks of the flow that makes evaluation sets. What they compute is in `evaluating`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from dataplane.contents.records import Records
from dataplane.errors import SourceInvalid
from dataplane.flows.attempts import computes, reads
from dataplane.flows.evaluating import Decided, cases_of
from dataplane.plain_sql import connect


@reads(timeout_seconds=120)
def read_decided(tools: list[str]) -> list[Decided]:
    """Read what people decided about these tools. Raises SourceInvalid when nothing was, or nothing is released.

    On retry: reads what is decided by then.
    """
    found = decided_by_people(tools)
    get_run_logger().info("Read %d decided requests of %s", len(found), ", ".join(tools))
    return found


def decided_by_people(tools: list[str]) -> list[Decided]:
    """See `read_decided`; plain SQL, through the one function that the console offers for it."""
    if not tools:
        raise SourceInvalid("No tool is released for evaluation. Name those whose decisions may be used.")
    with connect() as connection:
        rows = connection.execute("SELECT * FROM signalbox_decided_material(%s)", [tools]).fetchall()
    if not rows:
        raise SourceInvalid(f"Nobody has decided anything about {', '.join(tools)} yet.")
    made: list[list[Any]] = [[*row[:-1], row[-1].isoformat()] for row in rows]
    return [Decided(*values) for values in made]


@computes(timeout_seconds=120)
def cases(decided: list[Decided]) -> Records:
    """Make the cases, and show how many of each verdict are in each split."""
    made = Records(cases_of(decided))
    counts = Counter((str(row.body["split"]), str(row.body["verdict"])) for row in made.records)
    table = [{"split": split, "verdict": verdict, "cases": count} for (split, verdict), count in sorted(counts.items())]
    words = "All cases of one run, and of runs that proposed the same, are in one split."
    create_table_artifact(key="cases-by-split", table=table, description=words)
    return made
