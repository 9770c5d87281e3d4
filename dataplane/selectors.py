"""What pages, the API and agents read of the data plane. Postgres only: works while Prefect is away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import F, QuerySet

from console import ports
from console.clock import database_now
from console.lists.keyset import Order, page_after
from dataplane import catalogue, currency, schedules
from dataplane.catalogue import Entry
from dataplane.contents.base import Difference, Shown
from dataplane.contents.passages import INDEX_FROM_ROWS, PASSAGES, Nearest, PassageHit
from dataplane.embedding import embedder_named
from dataplane.errors import ContentUnknown, DatasetNotFound, DatasetNotPublished, RefreshNotFound
from dataplane.models import Dataset, DatasetVersion, Refresh, SearchScore
from dataplane.registered import Registered
from dataplane.schedules import ScheduleEntry

VERSIONS_SHOWN = 200  # newest, per dataset


@dataclass(frozen=True)
class PassageHits:
    """Passages of exactly one version, nearest first."""

    dataset: str
    version: int
    passages: list[PassageHit]


@dataclass(frozen=True)
class VersionReading:
    """What one version answered."""

    dataset: str
    version: int
    items: Sequence[Any]  # of the version's kind of content


@dataclass(frozen=True)
class DatasetState:
    """One dataset with its versions, newest first."""

    entry: Entry
    current: DatasetVersion | None
    confirmed_at: datetime | None
    fresh_until: datetime | None  # None before the first refresh that ended well
    is_stale: bool  # also before the first version
    versions: list[DatasetVersion]
    used_by: list[str]  # names of agents
    scheduled: str  # in words
    trouble: str = ""  # why the newest refresh confirmed nothing, in a sentence

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def title(self) -> str:
        return self.entry.title


@dataclass(frozen=True)
class RefreshPage:
    items: list[Refresh]
    next: str | None  # cursor of the next page


def nearest_passages(*, dataset: str = "handbook", query: str, limit: int = 6) -> PassageHits:
    """Return the passages of the dataset's current version that lie nearest to the query.

    Loads the embedding model on first use (0.7 s). Raises DatasetNotPublished, DatasetNotFound, EmbedderChanged.
    """
    found = read(dataset, {"query": query, "limit": limit})
    return PassageHits(dataset=dataset, version=found.version, passages=list(found.items))


def read(dataset: str, question: Mapping[str, Any]) -> VersionReading:
    """Ask the dataset's current version; what may be asked and what is answered is its kind of content's.

    Reads one version only, also when another is published meanwhile.
    Raises DatasetNotPublished, DatasetNotFound, and what the kind raises.
    """
    version = current_version(dataset)
    with connection.cursor() as cursor:
        items = catalogue.content_kind(version.kind).read(cursor, version.stored, question)
    return VersionReading(dataset, version.version, items)


def current_version(dataset: str) -> DatasetVersion:
    """Return the version that is current. Raises DatasetNotPublished, DatasetNotFound."""
    catalogue.entry(dataset)
    version = DatasetVersion.objects.filter(dataset__name=dataset, dataset__current_version=F("pk")).first()
    if version is None:
        raise DatasetNotPublished(dataset)
    return version


def current_versions(names: Iterable[str]) -> dict[str, int]:
    """Return the number of each named dataset's current version; those never published are left out."""
    found = Dataset.objects.filter(name__in=set(names), current_version__isnull=False)
    return dict(found.values_list("name", "current_version__version"))


def datasets() -> list[DatasetState]:
    """Return every dataset that this installation can produce. Four queries and the clock."""
    rows = {row.name: row for row in _datasets()}
    versions: dict[str, list[DatasetVersion]] = defaultdict(list)
    entries = catalogue.datasets()
    newest = [
        DatasetVersion.objects.filter(dataset_id=one.name).order_by("-version")[:VERSIONS_SHOWN] for one in entries
    ]
    for version in newest[0].union(*newest[1:], all=True) if newest else ():
        versions[version.dataset_id].append(version)
    now = database_now()
    faults = currency.last_faults([entry.name for entry in entries])
    return [
        _state(
            entry,
            rows.get(entry.name),
            sorted(versions[entry.name], key=lambda one: -one.version),
            now,
            faults.get(entry.name, ""),
        )
        for entry in entries
    ]


def jobs() -> list[DatasetState]:
    """Return every job: what is registered, runs and publishes no versions."""
    rows, now = {row.name: row for row in _datasets()}, database_now()
    found = [entry for entry in catalogue.others().values() if entry.is_job]
    faults = currency.last_faults([entry.name for entry in found])
    return [_state(entry, rows.get(entry.name), [], now, faults.get(entry.name, "")) for entry in found]


def dataset(name: str) -> DatasetState:
    """Return one dataset. Raises DatasetNotFound."""
    entry = catalogue.entry(name)
    row = _datasets().filter(name=name).first()
    versions = DatasetVersion.objects.filter(dataset_id=name).order_by("-version")[:VERSIONS_SHOWN]
    return _state(entry, row, list(versions), database_now(), currency.last_faults([name]).get(name, ""))


def _datasets() -> QuerySet[Dataset]:
    return Dataset.objects.select_related("current_version").prefetch_related("schedules")


def schedules_of(entry: Entry) -> list[ScheduleEntry]:
    """Return the schedules that are kept here; where they are left to Prefect, none."""
    return _schedules(entry, _datasets().filter(name=entry.name).first())


def _schedules(entry: Entry, row: Dataset | None) -> list[ScheduleEntry]:
    """Return the dataset's schedules; before the flow process has written them, the one that it begins with."""
    if row is None or row.scheduled_at is None:
        return [entry.schedule] if entry.schedule else []
    return [ScheduleEntry(one.slug, one.cron, one.timezone, one.is_active) for one in row.schedules.all()]


def is_left_to_prefect(entry: Entry) -> bool:
    """Return whether the schedules that stand in Prefect hold: none are kept here, not even that there are none."""
    return _is_left_to_prefect(entry, _datasets().filter(name=entry.name).first())


def _is_left_to_prefect(entry: Entry, row: Dataset | None) -> bool:
    return entry.is_registered and (row is None or row.scheduled_at is None)


def keeper_of_times(entry: Entry) -> Entry:
    """Return whose schedules make the entry's runs: the first registration's of those that share its deployment."""
    return catalogue.keeper_of_times(entry) if isinstance(entry, Registered) else entry


def _scheduled(entry: Entry, row: Dataset | None) -> str:
    if (keeper := keeper_of_times(entry)).name != entry.name:
        return f"with {keeper.name}, which runs the same deployment"
    if _is_left_to_prefect(entry, row):
        return "as its schedules in Prefect say"
    return schedules.in_words(_schedules(entry, row))


def _state(
    entry: Entry, row: Dataset | None, versions: list[DatasetVersion], now: datetime, fault: str
) -> DatasetState:
    confirmed_at = row.confirmed_at if row else None
    fresh_until = confirmed_at + entry.fresh_for if confirmed_at else None
    return DatasetState(
        entry=entry,
        current=row.current_version if row else None,
        confirmed_at=confirmed_at,
        fresh_until=fresh_until,
        is_stale=fresh_until is None or now > fresh_until,
        versions=versions,
        used_by=ports.dataset_readers().agents_reading(entry.name),
        scheduled=_scheduled(entry, row),
        trouble=f"The last refresh {fault}." if fault.startswith(("failed", "was")) else "",
    )


def version(dataset: str, number: int) -> DatasetVersion:
    """Return one version. Raises DatasetNotFound when there is none of this number."""
    rows = DatasetVersion.objects.select_related("dataset")
    found = rows.filter(dataset_id=dataset, version=number).first()
    if found is None:
        raise DatasetNotFound(f"There is no version {number} of a dataset called {dataset}.")
    return found


def shown(version: DatasetVersion, *, after: int = -1, limit: int = 50) -> Shown:
    """Return rows of the version for its page, those behind the position `after`. Raises ContentUnknown."""
    with connection.cursor() as cursor:
        return catalogue.content_kind(version.kind).show(cursor, version.stored, after=after, limit=limit)


def difference(old: DatasetVersion, new: DatasetVersion) -> Difference:
    """Compare two versions of one kind of content. Raises ContentUnknown, also for versions of two kinds."""
    if old.kind != new.kind:
        raise ContentUnknown(f"Version {old.version} holds {old.kind}, version {new.version} {new.kind}.")
    with connection.cursor() as cursor:
        return catalogue.content_kind(new.kind).difference(cursor, old.stored, new.stored)


def search_in_words(version: DatasetVersion) -> str:
    """Return how the version is searched, and why; empty for a version that is not searched."""
    if version.kind != PASSAGES.name:
        return ""
    found = {row.state: row for row in version.search_indexes.filter(state__in=("serving", "refused")).order_by("id")}
    if serving := found.get("serving"):
        recall = f", and finds {serving.recall:.1%} of what an exact search finds" if serving.recall is not None else ""
        return f"by an HNSW index over {serving.rows:,} passages{recall}"
    if version.rows < INDEX_FROM_ROWS:
        return f"exactly: an index is built from {INDEX_FROM_ROWS:,} passages on"
    if refused := found.get("refused"):
        return f"exactly. {refused.note}"
    return "exactly, until its index is built"


def search_scores(versions: Sequence[DatasetVersion]) -> dict[int, list[SearchScore]]:
    """Return the scores of these versions by the version's id, those of the newest set of questions alone."""
    rows = SearchScore.objects.filter(version__in=[one.pk for one in versions])
    newest = rows.order_by("-measured_at").values_list("questions_digest", flat=True).first()
    found: dict[int, list[SearchScore]] = defaultdict(list)
    for row in rows.filter(questions_digest=newest).order_by("method"):
        found[row.version_id].append(row)
    return found


def last_ended(dataset: str) -> Refresh | None:
    """Return the refresh of the dataset that ended last, however it ended; None before the first one."""
    ended = Refresh.objects.filter(dataset_id=dataset, is_dry_run=False).exclude(status__in=Refresh.OPEN)
    return ended.select_related("version").order_by("-finished_at").first()


def search(version: DatasetVersion, query: str, *, limit: int, exactly: bool = False) -> Nearest:
    """Return the version's passages nearest to the words, by the model that made it. Raises EmbedderChanged."""
    stored = version.stored
    model = embedder_named(stored.embedder, whose=f"Version {stored.number} of {stored.dataset}")
    vector = model.embed([query])[0]
    with connection.cursor() as cursor:
        return PASSAGES.nearest(cursor, stored, vector, limit=limit, exactly=exactly)


def refresh(refresh_id: str) -> Refresh:
    """Return one refresh with what its page shows. Raises RefreshNotFound."""
    found = Refresh.objects.select_related("version", "requested_by").filter(pk=refresh_id).first()
    if found is None:
        raise RefreshNotFound(f"There is no refresh {refresh_id}.")
    return found


NEWEST_REFRESH_FIRST: Final = Order("refreshes", ("id",), (str,), is_descending=True)


def refreshes(*, dataset: str | None = None, limit: int = 50, cursor: str = "") -> RefreshPage:
    """Return refreshes, newest first: ids sort by time."""
    rows = Refresh.objects.select_related("version", "requested_by")
    if dataset is not None:
        rows = rows.filter(dataset_id=dataset)
    return RefreshPage(*page_after(rows, NEWEST_REFRESH_FIRST, cursor, limit))


def refreshes_by_flow_run(flow_run_ids: Iterable[str]) -> dict[str, Refresh]:
    """Return the refreshes that these Prefect flow runs were made for."""
    rows = Refresh.objects.select_related("version", "requested_by")
    return {row.prefect_flow_run_id: row for row in rows.filter(prefect_flow_run_id__in=list(flow_run_ids))}


def window_key(dataset: str) -> str:
    """Return the key of the dataset's current window by the database's clock: the default of a refresh."""
    return catalogue.entry(dataset).key(database_now())


def suggested_key(dataset: str) -> str:
    """Return a key under which a refresh would really run: the window's, or `<window>.2` ... once used up.

    A key that belongs to an open refresh is suggested again, so that a second click joins it; nothing joins a dry run.
    """
    window = window_key(dataset)
    rows = Refresh.objects.filter(dataset_id=dataset, key__startswith=window)
    used_up = set(rows.exclude(status__in=Refresh.OPEN, is_dry_run=False).values_list("key", flat=True))
    number, key = 1, window
    while key in used_up:
        number += 1
        key = f"{window}.{number}"
    return key
