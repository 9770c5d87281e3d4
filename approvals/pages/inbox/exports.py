"""The inbox as a table for a spreadsheet, in full and defused.

UTF-8 with a byte order mark; every cell is quoted, shows everything and computes nothing (`console.text.cells`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_safe

from approvals.models import Approval
from approvals.pages.inbox.asked import filters_of, read_asked
from approvals.reading.listing import Filters, approvals_page
from console.http import needs, person
from console.text.cells import BOM, cell, line

MOST: Final = 10_000  # rows in one file
PIECE: Final = 200  # rows read at a time
COLUMNS: Final = (
    *("id", "status", "verdicts", "decided by", "comments", "risk", "tool", "action", "arguments", "digest"),
    *("agent", "agent's own words", "run", "started by", "opened", "due", "closed"),
)


def row_of(approval: Approval) -> list[str]:
    """Return the cells of an approval that was loaded with its decisions, in the order of COLUMNS."""
    decisions = list(approval.decisions.all())
    values: list[Any] = [
        approval.pk,
        approval.status,
        ", ".join(decision.verdict for decision in decisions),
        ", ".join(decision.by_name for decision in decisions),
        " / ".join(decision.note for decision in decisions if decision.note),
        approval.risk,
        approval.tool,
        approval.summary,
        bytes(approval.canonical).decode(),
        approval.digest,
        approval.agent,
        approval.agent_words,
        approval.run_id,
        approval.requested_by.username if approval.requested_by else "",
        approval.opened_at,
        approval.due_at,
        approval.closed_at,
    ]
    return [cell(value) for value in values]


class Export:
    """One file while it is written: the heading, then piece after piece, at the end a word if there was more."""

    def __init__(self, user: User, filters: Filters, *, most: int = MOST) -> None:
        self._user, self._filters, self._most = user, filters, most
        self._cursor, self._count, self._is_done = "", 0, False

    def heading(self) -> str:
        return BOM + line(COLUMNS)

    def piece(self) -> str:
        """Return the next lines, "" after the last. Three queries."""
        if self._is_done:
            return ""
        limit = min(PIECE, self._most - self._count)
        page = approvals_page(self._user, self._filters, cursor=self._cursor, limit=limit, with_everything=True)
        self._count += len(page.rows)
        lines = "".join(line(row_of(row)) for row in page.rows)
        self._cursor = page.next_cursor or ""
        if not self._cursor:
            self._is_done = True
        elif self._count >= self._most:
            self._is_done = True
            lines += line([f"Only the first {self._most:,} requests are in this file. Narrow the list for others."])
        return lines

    def __iter__(self) -> Iterator[str]:
        yield self.heading()
        while lines := self.piece():
            yield lines

    async def __aiter__(self) -> AsyncIterator[str]:
        yield self.heading()
        while lines := await sync_to_async(self.piece)():
            yield lines


@require_safe
@needs("see")
def export(request: HttpRequest) -> Any:  # a stream is no HttpResponse, which `needs` asks for
    """The list that the address asks for, as a CSV file: at most MOST rows, read piece by piece while it is sent."""
    written = Export(person(request), filters_of(read_asked(request)))
    # Each server takes its own kind of iterator as it comes and gathers the other one in memory.
    content = aiter(written) if isinstance(request, ASGIRequest) else iter(written)
    response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="signalbox-requests.csv"'
    return response
