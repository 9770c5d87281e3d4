"""The list of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import roles
from console.fragments import page_or_fragment
from console.http import needs, person
from console.lists.capped import capped
from console.lists.longer_lists import STEP, address_of, more_of, rows_wanted
from console.live.parts import is_a_part
from console.text.stored import asked_text
from orchestration import selectors
from orchestration.actions.bulk import FILTERS
from orchestration.diagnosis.table import heading_of
from orchestration.models import Run, RunView
from orchestration.run_views import views_of
from orchestration.selectors import RunPage

_WISHES: Final = ("status", "stuck", "cause", "agent", "search", "cursor", "limit")  # what the address says
STATUSES: Final = {"": "All"} | {status.value: str(status.label) for status in Run.Status}


@dataclass(frozen=True)
class RunTab:
    """One tab of the list; `count`: "7", "999+", or "" where there is none."""

    address: str
    title: str
    count: str
    is_current: bool
    is_alarm: bool = False  # its count is one that should be nought


@dataclass(frozen=True)
class ListedRuns:
    """What the address asks the list to show, and the rows."""

    status: str
    agent: str
    search: str
    cursor: str
    limit: int
    page: RunPage
    stuck: str = ""  # "1": only those that need somebody
    cause: str = ""  # only those that need somebody for this, as `orchestration.diagnosis` names a cause or a group
    counts: Mapping[str, int] = field(default_factory=dict)  # by status, and of the stuck ones
    views: list[RunView] = field(default_factory=list)  # of whoever looks
    fitting: int | None = None  # how many fit on all pages, as far as is counted; `None`: who looks may not act

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
    def tabs(self) -> list[RunTab]:
        """Return a tab for each status, and one for those that need somebody."""
        usual = {"cause": "", "cursor": "", "limit": STEP}
        tabs = [
            RunTab(self.address(status=status, stuck="", **usual), title, self._count(status), status == self._open)
            for status, title in STATUSES.items()
        ]
        stuck = self.address(status="", stuck="1", **usual)
        return [*tabs, RunTab(stuck, "Stuck", self._count("stuck"), self._open == "stuck", is_alarm=True)]

    @property
    def _open(self) -> str:
        return "stuck" if self.stuck else self.status

    def _count(self, name: str) -> str:
        return capped(self.counts[name]) if self.counts.get(name) else ""

    @property
    def cause_heading(self) -> str:
        """Return the cause it is narrowed to, in words, "" for none."""
        return heading_of(self.cause) if self.cause else ""

    @property
    def query(self) -> str:
        """Return what it shows, as a view keeps it."""
        return urlencode({name: value for name in FILTERS if (value := getattr(self, name))})

    @property
    def is_saved(self) -> bool:
        return any(view.query == self.query for view in self.views)

    @property
    def may_pick(self) -> bool:
        return self.fitting is not None

    @property
    def is_narrowed(self) -> bool:
        return bool(self.status or self.agent or self.search or self.stuck or self.cause)

    @property
    def act_on_all(self) -> str:
        """Return where one acts on all that fit, also on those of other pages."""
        return address_of("orchestration:act_on_many", {name: getattr(self, name) for name in FILTERS})

    @property
    def fitting_words(self) -> str:
        return capped(self.fitting or 0)

    @property
    def without_cause(self) -> str:
        return self.address(cause="", cursor="", limit=STEP)


@is_a_part
@require_safe
@needs("see")
def runs(request: HttpRequest) -> HttpResponse:
    """All runs, newest first."""
    context = {"listed": _listed(request, person(request)), "may_start": roles.may(request.user, "start_run")}
    context["may_act"] = roles.may(request.user, "act_on_run")
    return page_or_fragment(request, "orchestration/runs.html", "orchestration/_runs_rows.html", context)


def _listed(request: HttpRequest, user: User) -> ListedRuns:
    asked = {name: asked_text(request.GET.get(name), 200) for name in ("agent", "search", "cursor", "cause")}
    status = request.GET.get("status", "")
    size = rows_wanted(request.GET.get("limit", ""))
    status = status if status in STATUSES else ""
    stuck = "1" if request.GET.get("stuck") == "1" else ""
    page = selectors.runs_page(user, status=status, is_stuck=bool(stuck), limit=size, with_people=True, **asked)
    fitting = None
    if roles.may(user, "act_on_run"):
        wanted = {name: words for name, words in asked.items() if name != "cursor"}
        fitting = selectors.count_fitting(user, status=status, is_stuck=bool(stuck), **wanted)
    counts = selectors.counts()
    return ListedRuns(
        status, **asked, limit=size, page=page, stuck=stuck, counts=counts, views=views_of(user), fitting=fitting
    )
