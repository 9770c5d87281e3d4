"""The datasets this installation can produce: which flow makes each one, how often, from what.

Pure: read by the console (forms, schemas, default keys) and by the flows. A new dataset is one entry here and
one file in `flows/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from console.text.json_text import BEYOND, beyond_every_reader
from console.text.stored import can_be_kept
from dataplane import registered
from dataplane.contents.base import ContentKind
from dataplane.contents.external import EXTERNAL
from dataplane.contents.features import FEATURES
from dataplane.contents.passages import INDEX_FROM_ROWS, PASSAGES
from dataplane.contents.records import EVALUATION_CASES
from dataplane.contents.search_indexes import SEARCH_PLANS
from dataplane.contents.trained import MODELS
from dataplane.errors import ContentUnknown, DatasetNotFound, InvalidParameters
from dataplane.registered import Registered
from dataplane.schedules import ScheduleEntry
from dataplane.secret_fields import declares_secret
from dataplane.windows import Days, WindowPolicy


class HandbookParameters(BaseModel):
    """What may be chosen for one refresh of the handbook."""

    model_config = ConfigDict(extra="forbid")

    folder: str = Field("", max_length=200, description="Sub-folder of the handbook to read; empty reads all of it.")
    passage_characters: int = Field(
        1600, ge=200, le=8000, description="Longest passage, in characters; longer sections are split."
    )

    @field_validator("folder")
    @classmethod
    def _inside(cls, folder: str) -> str:
        """Keep the folder below the handbook's own: a parameter never opens another part of the disk."""
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts or "\\" in folder or not can_be_kept(folder):
            raise ValueError("must be a folder below the handbook's own")
        return "" if folder in {"", "."} else str(path)


@dataclass(frozen=True)
class DatasetEntry:
    """One dataset: its name, and the Prefect deployment that makes it."""

    name: str
    title: str
    flow: str  # the flow's name in Prefect
    deployment: str  # the deployment's name in Prefect
    content: ContentKind
    parameters: type[BaseModel]
    window: WindowPolicy  # the key of a refresh that is given none
    schedule: ScheduleEntry  # what its row begins with; from then on the row is the truth
    fresh_for: timedelta  # older than this it is called stale; one window and some slack
    at_first_start: bool = True  # made as soon as flows are served for the first time; else when somebody asks
    follows: str = ""  # a dataset: made again when a version of it with many rows becomes current
    builds_on_current: bool = False  # its flow reads the dataset's own current version: one after the other does so
    can_be_tried: bool = True  # a dry run says what would change without doing the work that counts
    is_registered: bool = False
    is_job: bool = False

    def __post_init__(self) -> None:
        """Refuse parameters that are secret: they are kept, sent and shown, and a `SecretStr` would arrive as stars."""
        if declares_secret(self.parameters_schema()):
            raise TypeError(
                f"The dataset {self.name} has a secret among its parameters, which are kept and shown. "
                "Let its flow read the secret from its environment or a Prefect block."
            )

    def key(self, moment: datetime) -> str:
        """Return the key of the window that the moment (aware) lies in."""
        return self.window.key(moment)

    def parameters_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a refresh's parameters."""
        return self.parameters.model_json_schema()

    def clean(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as kept and sent. Raises InvalidParameters, naming each path.

        Only what was given is kept: a new default in a later release must not make an old key conflict.
        """
        try:
            model = self.parameters.model_validate(parameters)
        except ValidationError as exc:
            raise InvalidParameters(
                [
                    (".".join(["parameters", *map(str, error["loc"])]), _sentence(error["msg"]))
                    for error in exc.errors(include_url=False, include_context=False)
                ]
            ) from exc
        cleaned = model.model_dump(mode="json", exclude_defaults=True)
        if path := beyond_every_reader(cleaned):
            raise InvalidParameters([(".".join(["parameters", *path]), BEYOND)])
        return cleaned


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


HANDBOOK = DatasetEntry(
    name="handbook",
    title="Customer service handbook",
    flow="refresh_handbook",
    deployment="daily",
    content=PASSAGES,
    parameters=HandbookParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="0 6 * * *"),
    fresh_for=timedelta(hours=26),
)


class NoParameters(BaseModel):
    """Nothing may be chosen."""

    model_config = ConfigDict(extra="forbid")


CUSTOMER_FEATURES = DatasetEntry(
    name="customer_features",
    title="Customer features",
    flow="build_customer_features",
    deployment="daily",
    content=FEATURES,
    parameters=NoParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="30 5 * * *"),
    fresh_for=timedelta(hours=26),
    at_first_start=False,
    builds_on_current=True,  # nothing that was ever known is dropped
)


class EvaluationParameters(BaseModel):
    """Which decisions may be used."""

    model_config = ConfigDict(extra="forbid")

    tools: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list,
        max_length=50,
        description="Tools released for evaluation, by name: only what people decided about these is used.",
    )


EVALUATION_SET = DatasetEntry(
    name="evaluation_set",
    title="Evaluation set of decisions",
    flow="regenerate_eval_set",
    deployment="on-request",
    content=EVALUATION_CASES,
    parameters=EvaluationParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="0 4 * * 1", is_active=False),  # nothing is released by itself
    fresh_for=timedelta(days=30),
    at_first_start=False,
)

VERDICT_MODEL = DatasetEntry(
    name="verdict_model",
    title="Verdict model",
    flow="train_verdict_model",
    deployment="on-request",
    content=MODELS,
    parameters=NoParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="0 5 * * 1", is_active=False),  # as the evaluation set that it is trained on
    fresh_for=timedelta(days=30),
    at_first_start=False,
    builds_on_current=True,  # a worse model than the current one is not published
)


class IndexParameters(BaseModel):
    """When there is to be an index, and how good it has to be."""

    model_config = ConfigDict(extra="forbid")

    least_rows: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description=(
            f"Passages from which on an index is built; below, none is. Empty: {INDEX_FROM_ROWS}, and an index in "
            "service stays."
        ),
    )
    least_recall: float = Field(
        0.95, ge=0, le=1, description="Of what an exact search finds, the share that the index has to find too."
    )
    again: bool = Field(False, description="Build it anew, also where a complete one is there.")


HANDBOOK_INDEX = DatasetEntry(
    name="handbook_index",
    title="Search index of the handbook",
    flow="rebuild_index",
    deployment="daily",
    content=SEARCH_PLANS,
    parameters=IndexParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="30 6 * * *"),
    fresh_for=timedelta(hours=26),
    at_first_start=False,
    follows=HANDBOOK.name,
    builds_on_current=True,  # it takes out of service what is in service now
    can_be_tried=False,
)

RETRIEVAL_ADAPTER = DatasetEntry(
    name="retrieval_adapter",
    title="Retrieval adapter",
    flow="train_retrieval_adapter",
    deployment="on-request",
    content=MODELS,
    parameters=NoParameters,
    window=Days(),
    schedule=ScheduleEntry(cron="30 7 * * 1", is_active=False),  # whoever writes questions asks for it
    fresh_for=timedelta(days=30),
    at_first_start=False,
    can_be_tried=False,  # all of its work is the trying
)

CATALOGUE = {
    entry.name: entry
    for entry in (HANDBOOK, HANDBOOK_INDEX, CUSTOMER_FEATURES, EVALUATION_SET, VERDICT_MODEL, RETRIEVAL_ADAPTER)
}


Entry = DatasetEntry | Registered


def of_ours(name: str) -> DatasetEntry:
    """Return the entry of a dataset that a flow of ours makes. Raises DatasetNotFound."""
    try:
        return CATALOGUE[name]
    except KeyError as exc:
        raise DatasetNotFound(f"There is no dataset called {name}.") from exc


def entry(name: str) -> Entry:
    """Return the entry of a dataset or job, of ours or of somebody else's. Raises DatasetNotFound."""
    found = known(name)
    if found is None:
        raise DatasetNotFound(f"There is no dataset called {name}.")
    return found


def known(name: str) -> Entry | None:
    """Return the same, None when there is none."""
    return CATALOGUE.get(name) or others().get(name)


def others() -> dict[str, Registered]:
    """Return what the registrations name; what is ours keeps its name."""
    return {name: one for name, one in registered.load().entries.items() if name not in CATALOGUE}


def keeper_of_times(entry: Registered) -> Registered:
    """Return the registration that keeps the times of the deployment: the first of those that share it."""
    there = (entry.flow, entry.deployment)
    return next((one for one in others().values() if (one.flow, one.deployment) == there), entry)


def datasets() -> list[Entry]:
    """Return what publishes versions: ours first."""
    return [*CATALOGUE.values(), *(one for one in others().values() if not one.is_job)]


def content_kind(name: str) -> ContentKind:
    """Return the kind of content that a version was published with. Raises ContentUnknown."""
    for known in (*(one.content for one in CATALOGUE.values()), EXTERNAL):
        if known.name == name:
            return known
    raise ContentUnknown(f"No dataset here holds content of the kind {name}, so its rows cannot be read.")
