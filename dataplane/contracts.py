"""What crosses the data plane's two borders. JSON only; no Django, no Prefect.

`RefreshOrder` goes in: somebody (the console, the schedule, a start-up) wants a dataset made again. The same key
is the same refresh and the same flow run. `PublishedVersion` comes out: what an agent reads is always one
published, immutable version. Content that returns to an earlier state makes that earlier version current
again instead of copying it, so one digest is one version for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from console.contracts import Boundary, Contracts, Step

VERSION = 1


@dataclass(frozen=True)
class RefreshOrder:
    """Console -> data plane."""

    dataset: str
    key: str  # which refresh this is, e.g. the schedule window "2026-11-24"
    parameters: dict[str, Any] = field(default_factory=dict)  # of the dataset's parameter model
    contract: int = VERSION

    def idempotency_key(self, flow: str, deployment: str) -> str:
        """Return Prefect's key. Prefect keeps keys per flow, so the deployment has to be in it."""
        return f"{flow}/{deployment}:{self.dataset}:{self.key}"


@dataclass(frozen=True)
class PublishedVersion:
    """Data plane -> agent."""

    dataset: str
    version: int  # 1, 2, 3 ...; never used twice
    digest: str  # SHA-256, hex, of the content and the name of the embedding model
    rows: int
    contract: int = VERSION


@dataclass(frozen=True)
class RefreshOutcome:
    """How one refresh ended: what the publishing transaction did, or what it found done already."""

    status: Literal["published", "unchanged", "finished", "cancelled"]
    version: PublishedVersion | None  # None when cancelled, or finished with nothing to publish or as a dry run
    sentence: str
    was_done: bool = False  # somebody else, or an earlier attempt, had finished this refresh


@dataclass(frozen=True)
class DryRunPreview:
    """What a dry run says: how the version that would be published differs from the current one."""

    against: int | None  # the current version then; None before the first one
    rows: int  # that the new version would have
    added: list[str]  # names of rows, at most `MOST_NAMES` of each kind
    removed: list[str]
    changed: list[str]
    counts: dict[str, int]  # of added, removed, changed
    sentence: str


MOST_NAMES = 200

CONTRACTS = Contracts(
    boundaries=(
        Boundary(
            name="console -> data plane",
            version=VERSION,
            takes="RefreshOrder(dataset, key, parameters)",
            gives=(
                "the refresh and its flow run. Ends as RefreshOutcome: published (version), unchanged (version), "
                "finished (nothing worth publishing, and why), cancelled; or failed with a sentence, the current "
                "version staying current"
            ),
            key=(
                "deployment + dataset + key; without a key: the current window of the dataset's policy, for the "
                "handbook a UTC date"
            ),
            timeouts=(
                "web to Prefect: connect 1 s, read 5 s (SIGNALBOX_PREFECT_SECONDS); one flow run 10 min; its tasks "
                "2 min each"
            ),
            checkpoint="the Refresh row; it is also the outbox: a click while Prefect is away is sent later",
            on_resume=(
                "the same key returns the same refresh and flow run; a run that died is started again under "
                "its own id, three times at most"
            ),
            must_not=(
                "the console never imports Prefect or runs a flow; a flow never calls an agent, waits for a "
                "person or imports Django"
            ),
        ),
        Boundary(
            name="data plane -> agent",
            version=VERSION,
            takes="a published DatasetVersion: PublishedVersion(dataset, version, digest, rows)",
            gives="PassageHits: rows of exactly one version; DatasetNotPublished before the first one",
            key="dataset + content digest: the same content is the same version",
            timeouts="none: reading is one query",
            checkpoint="rows of the version in Postgres, published in one transaction, never changed",
            on_resume="the version that is current then; each turn reports the versions that it read",
            must_not=(
                "an agent never reads rows of an unpublished version or by an index that is not complete and checked, "
                "and never starts a refresh"
            ),
        ),
    ),
    steps=(
        Step("Ask for a refresh and keep the request while Prefect is away", "console"),
        Step("Hand each refresh to Prefect under its key", "console"),
        Step("Run the daily schedule and retry what failed", "data"),
        Step("Read, split and embed the handbook", "data"),
        Step("Publish a version in one transaction", "data"),
        Step("Build a search index beside the one in service, check it, and swap them in one commit", "data"),
        Step("Start a flow run again when its process died", "console"),
        Step("Retrieve passages of the current version", "agent"),
    ),
)
