"""The list of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import roles
from console.fragments import page_or_fragment
from console.http import needs, person
from console.lists.longer_lists import STEP, address_of, more_of, rows_wanted
from orchestration import selectors
from orchestration.models import Run
from orchestration.selectors import Page

_WISHES: Final = ("status", "stuck", "agent", "search", "cursor", "limit")  # what the address says
STATUSES: Final = {"": "All"} | {status.value: str(status.label) for status in Run.Status}


@dataclass(frozen=True)
class Listed:
    """What the address asks the list to show, and the rows."""

    status: str
    agent: str
    search: str
    cursor: str
    limit: int
    page: Page
    stuck: str = ""  # "1": only those whose turn has failed for too long

    def address(self, **changes: Any) -> str:
        """Return this list's address with changes."""
        return address_of("orchestration:runs", {name: getattr(self, name) for name in _WISHES} | changes)

    @property
    def here(self) -> str:
        return self.address()

    @property
    def more(self) -> str:
        return more_of(self, self.page.next_cursor)

    @property
    def tabs(self) -> list[tuple[str, str, bool]]:
        """Return address, title and whether it is open, for each status."""
        tabs = [
            (
                self.address(status=status, stuck="", cursor="", limit=STEP),
                title,
                status == self.status and not self.stuck,
            )
            for status, title in STATUSES.items()
        ]
        return [*tabs, (self.address(status="", stuck="1", cursor="", limit=STEP), "Stuck", bool(self.stuck))]


@require_safe
@needs("see")
def runs(request: HttpRequest) -> HttpResponse:
    """All runs, newest first."""
    context = {"listed": _listed(request, person(request)), "may_start": roles.may(request.user, "start_run")}
    return page_or_fragment(request, "orchestration/runs.html", "orchestration/_runs_rows.html", context)


def _listed(request: HttpRequest, user: User) -> Listed:
    asked = {name: request.GET.get(name, "").replace("\x00", "")[:200] for name in ("agent", "search", "cursor")}
    status = request.GET.get("status", "")
    size = rows_wanted(request.GET.get("limit", ""))
    status = status if status in STATUSES else ""
    stuck = "1" if request.GET.get("stuck") == "1" else ""
    page = selectors.runs_page(user, status=status, is_stuck=bool(stuck), limit=size, **asked)
    return Listed(status, **asked, limit=size, page=page, stuck=stuck)
