"""What can go wrong in the data plane.

DataplaneError
├── DatasetNotFound          no such dataset is known here
├── DatasetNotPublished      known, but no version has been published yet
├── ContentUnknown           a version's kind of content is none that this release reads or compares
├── EmbedderChanged          a version was embedded with a model that this process cannot load
├── EmbedderInvalid          the model that was chosen cannot be used, or its vectors have another length (permanent)
├── EmbedderAway             a hosted model gives no vectors just now (try again later)
├── IndexRefused             a new search index is not good enough to be put into service (permanent)
├── IndexHeldUp              a search index could not be built now (try again later)
├── RefreshNotFound
├── RefreshKeyTaken          the key belongs to a refresh with other parameters
├── DryRunRefused            nobody could say what a refresh of this dataset would change without doing it
├── QuestionInvalid          an agent's or a program's question is none that this kind of content answers
├── SourceInvalid            what a flow read fails the checks before publishing (permanent)
├── TrainingMissing          the flow process has not what training needs (permanent)
├── ModelRefused             a stored model holds what this release does not trust (permanent)
├── VersionTaken             the key belongs to a version with another digest
├── MadeHere                 the dataset's versions are made by a flow of Signalbox's own
├── SchedulesChanged         somebody else changed the schedules since they were shown
├── FlowRunActionRefused     a flow run's state forbids what was asked
├── InvalidParameters        the parameters do not fit the dataset's schema
├── HandbookInvalid          a document cannot be read or understood (permanent)
├── RefreshHeldElsewhere     another flow run holds the refresh and did not finish in time
└── PrefectError
    ├── PrefectAway          no connection, no answer in time, or a 5xx (try again later)
    │   ├── PrefectBusy      it answers that its database is held up, or that we ask too often (try again soon)
    │   ├── PrefectLocked    it answers, and does not let us in (try again when somebody has mended that)
    │   ├── NotStarted       so a start with parameters or a secret could not be checked
    │   └── MayBeDone        what an admin asked it to do with a flow run may have reached it (ask the same again)
    ├── FlowRunNotFound
    ├── DeploymentNotFound   nobody has registered the deployment yet
    └── PrefectRefused       Prefect understood and said no
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from console.refusals import EngineAway, Invalid, NotFound, Refused


class DataplaneError(Exception):
    """The data plane could not do what was asked."""

    permanent = True  # trying again cannot help

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").split("\n")[0])


class DatasetNotFound(DataplaneError, NotFound):
    """No such dataset."""

    what = "dataset of this name"


class DatasetNotPublished(DataplaneError, Refused):
    """No version of this dataset has been published yet."""

    permanent = False

    def __init__(self, dataset: str) -> None:
        super().__init__(f"No version of the dataset {dataset} has been published yet.")
        self.dataset = dataset


class ContentUnknown(DataplaneError, Refused):
    """No dataset here holds content of this kind, or versions of it cannot be compared here."""


class QuestionInvalid(DataplaneError):
    """This question is none that the dataset answers."""


class SourceInvalid(DataplaneError):
    """What was read fails the checks before publishing, so nothing was published."""


class TrainingMissing(DataplaneError):
    """The flow process has not what training needs."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"The process that runs flows has no {missing}. Install it where the part `flows` runs, with "
            "`.uv/bin/uv sync --inexact --extra training`, then refresh again under another key."
        )


class ModelRefused(DataplaneError):
    """A stored model holds what this release does not trust, so it was not loaded."""


class EmbedderChanged(DataplaneError):
    """The version was embedded with another model than this process has; refresh the dataset."""


class EmbedderInvalid(DataplaneError):
    """The embedding model that was chosen cannot be used."""


class EmbedderAway(DataplaneError):
    """The embedding model does not answer."""

    permanent = False


class IndexRefused(DataplaneError):
    """The new search index is not good enough, so search goes on without it."""


class IndexHeldUp(DataplaneError):
    """The search index could not be built now."""

    permanent = False


class RefreshNotFound(DataplaneError, NotFound):
    """No such refresh."""

    what = "refresh of this id"


class RefreshKeyTaken(DataplaneError, Refused):
    """This key already belongs to a refresh with other parameters."""

    title = "Key taken"

    def __init__(
        self, dataset: str, key: str, refresh_id: str, *, belongs_to: str = "a refresh with other parameters"
    ) -> None:
        super().__init__(f"The key {key} of the dataset {dataset} already belongs to {belongs_to}.")
        self.dataset, self.key, self.refresh_id = dataset, key, refresh_id

    def facts(self) -> dict[str, Any]:
        return {"refresh_id": self.refresh_id}


class DryRunRefused(DataplaneError, Refused):
    """Nobody could say what a refresh of this dataset would change without doing it."""

    title = "No dry run"


class VersionTaken(DataplaneError, Refused):
    """This key already belongs to a version with another digest."""

    title = "Key taken"

    def __init__(self, dataset: str, key: str, version: int) -> None:
        super().__init__(
            f"The key {key} of the dataset {dataset} already belongs to version {version}, another content."
        )
        self.version = version

    def facts(self) -> dict[str, Any]:
        return {"version": self.version}


class MadeHere(DataplaneError, Refused):
    """This dataset is made by a flow of Signalbox's own; nobody else publishes its versions."""

    title = "Made here"


class SchedulesChanged(DataplaneError, Refused):
    """Somebody else has changed these schedules since this form was drawn, so nothing was kept."""

    title = "Changed meanwhile"


class FlowRunActionRefused(DataplaneError, Refused):
    """The flow run is in a state in which this cannot be done."""


class InvalidParameters(DataplaneError, Invalid):
    """The parameters do not fit the dataset's schema; paths are dotted and start with "parameters" or "key"."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in errors))
        self.errors = [{"path": path, "message": message} for path, message in errors]


class HandbookInvalid(DataplaneError):
    """A document of the handbook cannot be read."""


class RefreshHeldElsewhere(DataplaneError):
    """Another flow run is working on this refresh, or on what it builds on, and did not finish in time."""

    permanent = False


class PrefectError(DataplaneError):
    """Prefect did not do what was asked."""


class PrefectAway(PrefectError, EngineAway):
    """Prefect cannot be reached."""

    permanent = False
    title = "Prefect is away"
    engine = "prefect"
    still_works = (
        "Datasets, versions and refreshes can be read, agents read the current versions, and a refresh asked for "
        "now is kept and sent when Prefect is back."
    )


class PrefectBusy(PrefectAway):
    """Prefect answers, and cannot serve us now: its database is held up, or we ask too often. What was asked is kept.

    `retry_after`: how long it asks us to wait, at most `prefect_gateway.LONGEST_WAIT`; None where it does not say.
    """

    title = "Prefect is busy"

    def __init__(self, told: str = "", *, retry_after: timedelta | None = None) -> None:
        super().__init__(told)
        self.retry_after = retry_after

    @property
    def detail(self) -> str:
        return f"{self} {self.still_works}"


class PrefectLocked(PrefectAway):
    """Prefect does not accept our credentials. What was asked is kept."""

    @property
    def detail(self) -> str:
        return f"Prefect cannot be reached. {self} {self.still_works}"


class NotStarted(PrefectAway):
    """Prefect cannot be reached to check what was asked for."""

    still_works = (
        "Nothing was started: without Prefect no parameter is checked and no secret sent or compared. A start without "
        "parameters is kept, and sent when Prefect is back."
    )

    @property
    def detail(self) -> str:
        return f"Prefect cannot be reached. {self} {self.still_works}"


class MayBeDone(PrefectAway):
    """Prefect gave no answer to what was asked of a flow run, so nobody here knows whether it has heard it."""

    still_works = (
        "What you asked for is on the record. It is not known whether Prefect has heard it: look at the run, and where "
        "nothing has changed, ask the same again."
    )

    @property
    def sentence(self) -> str:
        return f"{self} {self.still_works}"

    @property
    def detail(self) -> str:
        return self.sentence


class FlowRunNotFound(PrefectError, NotFound):
    """Prefect knows no such flow run."""

    what = "flow run of this id"


class DeploymentNotFound(PrefectError, Refused):
    """Prefect does not know this deployment yet."""

    permanent = False
    title = "No such deployment"


class PrefectRefused(PrefectError, Refused):
    """Prefect refused the request."""

    title = "Prefect refused"
