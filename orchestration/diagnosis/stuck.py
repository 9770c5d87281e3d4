"""The stuck list: all runs that need somebody, those with one cure together, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, F, Min, QuerySet, Value, Window
from django.db.models.functions import Coalesce, RowNumber

from console.lists.capped import COUNT_CAP
from console.lists.keyset import Order
from console.lists.longer_lists import address_of
from orchestration import selectors
from orchestration.actions import bulk
from orchestration.actions.base import Action
from orchestration.actions.table import ACTIONS
from orchestration.diagnosis.table import ACTIONS as HELPING
from orchestration.diagnosis.table import heading_of
from orchestration.models import Run

SHOWN: Final = 5  # runs of each group
GROUPS_AT_MOST: Final = 200


@dataclass(frozen=True)
class StuckGroup:
    """Runs that one cure helps."""

    name: str
    cause: str
    count: int
    oldest_since: datetime | None
    runs: list[Run] = field(default_factory=list)  # the oldest first, SHOWN at most

    @property
    def heading(self) -> str:
        return heading_of(self.name)

    @property
    def sentence(self) -> str:
        """Return why: of one run its own sentence, of several what they have in common."""
        if self.count == 1 and self.runs:
            return self.runs[0].cause_sentence
        return f"{self.count:,} runs: {self.heading}."

    @property
    def actions(self) -> list[Action]:
        """Return the actions that help all of them, the best first."""
        return [ACTIONS[name] for name in HELPING.get(self.cause, ()) if name in ACTIONS]

    @property
    def actions_for_all(self) -> list[tuple[Action, str]]:
        """Return those that can be done to all of them at once, with where that is previewed."""
        wanted = {"stuck": "1", "cause": self.name}
        able = [one for one in self.actions if one.name in bulk.IN_BULK and not one.options.model_fields]
        return [(one, address_of("orchestration:act_on_many", wanted | {"action": one.name})) for one in able]

    @property
    def address(self) -> str:
        """Return where the list of runs shows all of them."""
        return address_of("orchestration:runs", {"stuck": "1", "cause": self.name})


@dataclass(frozen=True)
class StuckPage:
    """A part of the list."""

    groups: list[StuckGroup]
    next: str | None  # cursor of the next page


_UNKNOWN: Final = datetime(9999, 12, 31, tzinfo=UTC)  # in place of no instant: after all others
_WORST_FIRST: Final = Order("stuck", ("cause_rank", "oldest", "first"), (int, datetime, str))


def stuck_runs(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Run]:
    """Return the runs that need somebody, of those that the user may see."""
    return selectors.visible_to(user).exclude(cause="")


def groups_for(user: AbstractBaseUser | AnonymousUser, *, limit: int = GROUPS_AT_MOST, cursor: str = "") -> StuckPage:
    """Return a page of the groups, the worst first, then the oldest. Two queries over the runs that are stuck alone."""
    rows = stuck_runs(user)
    found = (
        rows.order_by()
        .values("cause_group", "cause", "cause_rank")
        .annotate(count=Count("pk"), oldest=Coalesce(Min("cause_since"), Value(_UNKNOWN)), first=Min("pk"))
    )
    if (behind := _WORST_FIRST.read(cursor).values) is not None:
        found = found.filter(_WORST_FIRST.beyond(behind))
    told = [SimpleNamespace(**one) for one in found.order_by(*_WORST_FIRST.sorting())[: limit + 1]]
    groups = [
        StuckGroup(one.cause_group, one.cause, one.count, None if one.oldest == _UNKNOWN else one.oldest)
        for one in told[:limit]
    ]
    by_name = {group.name: group for group in groups}
    number = Window(RowNumber(), partition_by=[F("cause_group")], order_by=[F("cause_since").asc(), F("pk").asc()])
    shown = rows.filter(cause_group__in=by_name).annotate(number=number).filter(number__lte=SHOWN)
    for run in _in_order(shown.select_related("requested_by")):
        by_name[run.cause_group].runs.append(run)
    return StuckPage(groups, _WORST_FIRST.cursor(told[limit - 1]) if len(told) > limit else None)


def _in_order(rows: QuerySet[Run]) -> Sequence[Run]:
    return list(rows.order_by("cause_since", "pk"))


def count_for(user: AbstractBaseUser | AnonymousUser) -> int:
    """Return how many runs need somebody, at most COUNT_CAP."""
    return stuck_runs(user).order_by()[:COUNT_CAP].count()
