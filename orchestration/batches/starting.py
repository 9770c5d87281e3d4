"""Check a table row by row, and keep it: every row before anything starts, one statement for all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction

from approvals.record import audit
from console import outbox
from console.ids import new_id
from console.live.announce import announce
from console.outbox import Kind
from console.text.digests import digest_of_json
from orchestration.agents.registry import UnknownAgent, agent_named
from orchestration.batches import counting
from orchestration.batches.tables import MOST_ROWS, TableRow
from orchestration.errors import AgentsLoading, BatchKeyReused, InvalidInput
from orchestration.models import Batch, BatchItem
from orchestration.services import checked_input

ACTIVE: Final = 10  # runs that work at the same time
MOST_ACTIVE: Final = 200
OPEN_APPROVALS: Final = 200  # requests that wait for people
MOST_OPEN: Final = 5_000
ERRORS_TOLD: Final = 500  # more of them help nobody
KEY_LIMIT: Final = 200  # characters


@dataclass(frozen=True)
class RowFault:
    """What is wrong with one row. `row`: from 1; `line`: of the text it stood in; `path`: inside the input."""

    row: int
    line: int
    path: str
    message: str

    @property
    def api_path(self) -> str:
        """Return where it stands in `inputs`, which counts from 0."""
        return f"inputs/{self.row - 1}" + (f"/{self.path.replace('.', '/')}" if self.path else "")


@dataclass(frozen=True)
class CheckedTable:
    """A table that was held against an agent's input schema."""

    agent: str
    inputs: list[dict[str, Any]]  # of the rows that are right, in order
    total: int
    faults: list[RowFault]
    same: list[tuple[int, int]] = field(default_factory=list)  # rows from 1: one, and an earlier one that says the same

    @property
    def wrong(self) -> int:
        """Return how many rows are wrong."""
        return len({fault.row for fault in self.faults})

    @property
    def digest(self) -> str:
        return digest_of_json([self.agent, self.inputs])


def check(agent: str, rows: Sequence[TableRow]) -> CheckedTable:
    """Hold each row against the agent's input schema.

    Raises InvalidInput for an agent that is not there, AgentsLoading while it may still come.
    """
    try:
        agent_named(agent)
    except UnknownAgent as exc:
        if exc.is_loading:
            raise AgentsLoading(f"{exc} {AgentsLoading.__doc__}") from exc
        raise InvalidInput([{"path": "agent", "message": str(exc)}]) from exc
    inputs: list[dict[str, Any]] = []
    faults: list[RowFault] = []
    seen: dict[str, int] = {}
    same: list[tuple[int, int]] = []
    for number, row in enumerate(rows, start=1):
        found = [RowFault(number, row.line, path, message) for path, message in row.errors]
        if not found:
            try:
                checked = checked_input(agent, row.given)
            except InvalidInput as exc:
                found = [RowFault(number, row.line, _inside(one["path"]), one["message"]) for one in exc.errors]
            else:
                inputs.append(checked)
                earlier = seen.setdefault(json.dumps(checked, sort_keys=True), number)
                if earlier != number:
                    same.append((number, earlier))
        faults += found
    return CheckedTable(agent, inputs, len(rows), faults, same)


def _inside(path: str) -> str:
    return path.removeprefix("input").removeprefix(".")


def start_batch(
    *,
    agent: str,
    rows: Sequence[TableRow],
    key: str,
    requested_by: User,
    active: int = ACTIVE,
    open_approvals: int = OPEN_APPROVALS,
) -> tuple[Batch, bool]:
    """Keep a batch and have it fed; return it and whether it is new.

    The same key with the same inputs returns the same batch, however often and from however many clients at once.
    Raises InvalidInput with each wrong row, and then nothing is kept; BatchKeyReused.
    """
    _check_wishes(rows, key, active, open_approvals)
    checked = check(agent, rows)
    if checked.faults:
        raise InvalidInput(errors_of(checked))
    digest = checked.digest
    batch_id = new_id("batch")
    try:
        with transaction.atomic():
            batch = Batch.objects.create(
                id=batch_id,
                key=key,
                digest=digest,
                agent=agent,
                total=checked.total,
                active=active,
                open_approvals=open_approvals,
                requested_by=requested_by,
            )
            _copy(batch_id, checked.inputs)
            counting.move(batch_id, "", BatchItem.State.NOT_STARTED, checked.total)
            outbox.enqueue(kind=Kind.FEED_BATCH, subject=batch_id, payload={"batch_id": batch_id})
            announce("batches", f"batch:{batch_id}")
            body = {"agent": agent, "items": checked.total, "inputs_digest": digest}
            audit.record(actor=requested_by.username, kind="batch.requested", subject=batch_id, body=body)
    except IntegrityError:
        # The key is taken: somebody else's click, or our own again.
        batch = Batch.objects.get(key=key)
        if batch.digest != digest or batch.agent != agent:
            raise BatchKeyReused(BatchKeyReused.__doc__) from None
        return batch, False
    batch.refresh_from_db()
    return batch, True


def errors_of(checked: CheckedTable) -> list[dict[str, Any]]:
    """Return the faults as an error's list, the first ERRORS_TOLD of them and how many there are besides."""
    told: list[dict[str, Any]] = [
        {"path": fault.api_path, "message": fault.message, "row": fault.row, "line": fault.line}
        for fault in checked.faults[:ERRORS_TOLD]
    ]
    left = len(checked.faults) - len(told)
    return told + ([{"path": "inputs", "message": f"and {left:,} more faults in other rows"}] if left else [])


def _check_wishes(rows: Sequence[TableRow], key: str, active: int, open_approvals: int) -> None:
    errors = []
    if not key.strip() or len(key) > KEY_LIMIT or not key.isprintable():
        errors.append(
            {"path": "key", "message": f"A key is 1 to {KEY_LIMIT} characters, by which a repetition is known."}
        )
    if not 1 <= active <= MOST_ACTIVE:
        errors.append({"path": "active", "message": f"Between 1 and {MOST_ACTIVE} runs work at the same time."})
    if not 1 <= open_approvals <= MOST_OPEN:
        errors.append({"path": "open_approvals", "message": f"Between 1 and {MOST_OPEN:,} requests wait for people."})
    if not rows:
        errors.append({"path": "inputs", "message": "A batch has at least one row."})
    if len(rows) > MOST_ROWS:
        errors.append(
            {"path": "inputs", "message": f"A batch has at most {MOST_ROWS:,} rows; these are {len(rows):,}."}
        )
    if errors:
        raise InvalidInput(errors)


def _copy(batch_id: str, inputs: Sequence[dict[str, Any]]) -> None:
    """Write all items in one statement."""
    with connection.cursor() as cursor:
        columns = "(batch_id, number, input, state, attempt)"
        with cursor.copy(f"COPY orchestration_batchitem {columns} FROM STDIN") as copy:
            for number, given in enumerate(inputs, start=1):
                copy.write_row((batch_id, number, json.dumps(given), BatchItem.State.NOT_STARTED.value, 0))
