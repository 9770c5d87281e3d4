"""Search in two versions side by side, and how well each version answers the questions whose passage is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from console import roles
from console.http import needs, person
from dataplane import measuring, selectors
from dataplane.catalogue import HANDBOOK, RETRIEVAL_ADAPTER
from dataplane.contents.passages import PASSAGES, PassageHit, passage_name
from dataplane.errors import DataplaneError
from dataplane.models import DatasetVersion, SearchScore
from dataplane.search_figures import WAYS

LIMIT: Final = 6  # as many as an agent is given
LONGEST_QUERY: Final = 500
VERSIONS_SCORED: Final = 12


@dataclass(frozen=True)
class FoundPassage:
    """One passage that a version gave, and where the other version has it."""

    hit: PassageHit
    rank: int
    elsewhere: str  # in words; empty where it is the same place


@dataclass(frozen=True)
class SearchedVersion:
    """What one version gave."""

    version: DatasetVersion
    found: list[FoundPassage]
    how: str
    fault: str = ""


@dataclass(frozen=True)
class ScoredVersion:
    """One version's row in the table of scores."""

    version: DatasetVersion
    scores: list[SearchScore | None]  # in the order of WAYS

    @property
    def measured_at(self) -> datetime | None:
        return max((one.measured_at for one in self.scores if one is not None), default=None)


@require_http_methods(["GET", "HEAD", "POST"])
@needs("see")
def search(request: HttpRequest, dataset: str) -> HttpResponse:
    """Ask two versions the same; below it, every version's scores. A POST measures one version."""
    if request.method == "POST":
        return _measure(request, dataset)
    state = selectors.dataset(dataset)
    versions = [one for one in state.versions if one.kind == PASSAGES.name]
    query = request.GET.get("q", "").strip()
    fault = f"A question has {LONGEST_QUERY} characters at most." if len(query) > LONGEST_QUERY else ""
    newest = state.current if state.current in versions else (versions[0] if versions else None)
    right = _chosen(request.GET.get("right", ""), versions) or newest
    left = _chosen(request.GET.get("left", ""), versions) or next((one for one in versions if one != right), right)
    searched: list[SearchedVersion] = []
    if query and not fault and left and right:
        searched = _side_by_side(query, [left, right] if left != right else [right])
    scored = versions[:VERSIONS_SCORED]
    scores = selectors.search_scores(scored)
    rows = [ScoredVersion(one, [_by_method(scores.get(one.pk, []), way) for way in WAYS]) for one in scored]
    context: dict[str, Any] = {
        "state": state,
        "versions": versions,
        "query": query[:LONGEST_QUERY],
        "left": left,
        "right": right,
        "fault": fault,
        "searched": searched,
        "ways": list(WAYS.values()),
        "rows": rows,
        "missed": next((one for row in rows[:1] for one in row.scores if one is not None and one.missed), None),
        "may_measure": roles.may(request.user, "refresh"),
        "adapter": _adapter() if dataset == HANDBOOK.name else "",
        "adapter_name": RETRIEVAL_ADAPTER.name,
    }
    return render(request, "dataplane/search.html", context, status=422 if fault else 200)


def _measure(request: HttpRequest, dataset: str) -> HttpResponse:
    if not roles.may(request.user, "refresh"):
        raise PermissionDenied("Only an admin may measure a version's search.")
    number = request.POST.get("version", "")
    version = selectors.version(dataset, int(number) if number.isdecimal() and len(number) < 10 else 0)
    try:
        done = measuring.measure(version, user=person(request))
        told = ", ".join(f"{WAYS[one.method]} {one.found} of {one.questions}" for one in done)
        messages.success(request, f"Version {version.version} was measured: {told}.")
    except DataplaneError as exc:
        messages.error(request, f"Version {version.version} cannot be measured. {exc}")
    return redirect(reverse("dataplane:search", args=[dataset]))


def _adapter() -> str:
    """Return in a sentence what became of the retrieval adapter when it was trained last."""
    last = selectors.last_ended(RETRIEVAL_ADAPTER.name)
    if last is None:
        return "No adapter was trained yet."
    if last.version is not None:
        return f"Version {last.version.version} is published: with it, search finds more than without."
    return last.note or last.error or "The last training was cancelled."


def _chosen(number: str, versions: list[DatasetVersion]) -> DatasetVersion | None:
    return next((one for one in versions if str(one.version) == number), None)


def _by_method(scores: list[SearchScore], method: str) -> SearchScore | None:
    return next((one for one in scores if one.method == method), None)


def _side_by_side(query: str, versions: list[DatasetVersion]) -> list[SearchedVersion]:
    given: list[tuple[DatasetVersion, list[PassageHit], str, str]] = []
    for version in versions:
        try:
            found = selectors.search(version, query, limit=LIMIT)
            how = "by its index" if found.by_index else "exactly"
            given.append((version, found.hits, how, ""))
        except DataplaneError as exc:
            given.append((version, [], "", str(exc)))
    places = [{_key(hit): rank for rank, hit in enumerate(hits, 1)} for _, hits, _, _ in given]
    return [
        SearchedVersion(
            version,
            [
                FoundPassage(hit, rank, _elsewhere(hit, rank, [p for place, p in enumerate(places) if place != number]))
                for rank, hit in enumerate(hits, 1)
            ],
            how,
            fault,
        )
        for number, (version, hits, how, fault) in enumerate(given)
    ]


def _key(hit: PassageHit) -> tuple[str, str]:
    return passage_name(hit.document, hit.heading), hit.text


def _elsewhere(hit: PassageHit, rank: int, others: list[dict[tuple[str, str], int]]) -> str:
    if not others:
        return ""
    other = others[0]
    if (there := other.get(_key(hit))) is not None:
        return "" if there == rank else f"there number {there}"
    same_place = [number for (name, _), number in other.items() if name == _key(hit)[0]]
    return f"there number {same_place[0]}, in other words" if same_place else f"not among the first {LIMIT} there"
