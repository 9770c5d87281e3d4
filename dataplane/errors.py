"""What can go wrong in the data plane.

DataplaneError
├── DatasetNotFound          no such dataset is known here
├── DatasetNotPublished      known, but no version has been published yet
├── EmbedderChanged          the current version was embedded with another model
├── RefreshNotFound
├── RefreshKeyTaken          the key belongs to a refresh with other parameters
├── InvalidParameters        the parameters do not fit the dataset's schema
├── HandbookInvalid          a document cannot be read or understood (permanent)
├── RefreshHeldElsewhere     another flow run holds the refresh and did not finish in time
└── PrefectError
    ├── PrefectAway          no connection, no answer in time, or a 5xx (try again later)
    │   └── PrefectLocked    it answers, and does not let us in (try again when somebody has mended that)
    ├── FlowRunNotFound
    ├── DeploymentNotFound   nobody has registered the deployment yet
    └── PrefectRefused       Prefect understood and said no
"""

from __future__ import annotations

from collections.abc import Sequence


class DataplaneError(Exception):
    """The data plane could not do what was asked."""

    permanent = True  # trying again cannot help

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").split("\n")[0])


class DatasetNotFound(DataplaneError):
    """No such dataset."""


class DatasetNotPublished(DataplaneError):
    """No version of this dataset has been published yet."""

    permanent = False

    def __init__(self, dataset: str) -> None:
        super().__init__(f"No version of the dataset {dataset} has been published yet.")
        self.dataset = dataset


class EmbedderChanged(DataplaneError):
    """The current version was embedded with another model than this process has; refresh the dataset."""


class RefreshNotFound(DataplaneError):
    """No such refresh."""


class RefreshKeyTaken(DataplaneError):
    """This key already belongs to a refresh with other parameters."""

    def __init__(self, dataset: str, key: str, refresh_id: str) -> None:
        super().__init__(f"The key {key} of the dataset {dataset} already belongs to a refresh with other parameters.")
        self.dataset, self.key, self.refresh_id = dataset, key, refresh_id


class InvalidParameters(DataplaneError):
    """The parameters do not fit the dataset's schema.

    `errors`: pairs of path (dotted, starting with "parameters" or "key") and message.
    """

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in errors))
        self.errors = tuple(errors)


class HandbookInvalid(DataplaneError):
    """A document of the handbook cannot be read."""


class RefreshHeldElsewhere(DataplaneError):
    """Another flow run is working on this refresh and did not finish in time."""

    permanent = False


class PrefectError(DataplaneError):
    """Prefect did not do what was asked."""


class PrefectAway(PrefectError):
    """Prefect cannot be reached."""

    permanent = False


class PrefectLocked(PrefectAway):
    """Prefect does not accept our credentials. What was asked is kept."""


class FlowRunNotFound(PrefectError):
    """Prefect knows no such flow run."""


class DeploymentNotFound(PrefectError):
    """Prefect does not know this deployment yet."""

    permanent = False


class PrefectRefused(PrefectError):
    """Prefect refused the request."""
