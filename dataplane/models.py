"""Datasets, their immutable versions, and the refreshes that were asked for.

Flows write these tables through `dataplane.versions` and `dataplane.refreshes.claim` (plain SQL, no Django); the two
are held together by tests. A version and its passages are never changed: the database refuses it.
"""

from __future__ import annotations

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q, Value
from pgvector.django import VectorField

from console.clock import DatabaseNow
from console.text.stored import storable
from dataplane.contents.base import Stored
from dataplane.credentials import input_without_credentials, without_credentials
from dataplane.embedding import DIMENSIONS
from dataplane.refreshes import states


class ReasonField(models.TextField):  # type: ignore[type-arg]  # Django's own field is no generic at run time
    """Why something failed, in somebody else's words: kept as PostgreSQL can, and without the credentials in them.

    Masked on reading too, for rows of earlier releases.
    """

    def get_prep_value(self, value: Any) -> Any:
        return without_credentials(storable(super().get_prep_value(value) or ""))

    def from_db_value(self, value: str, expression: Any, connection: Any) -> str:  # Any: Django's, not needed
        return without_credentials(value)


class Dataset(models.Model):
    """Something the data plane produces. One version at most is current."""

    name = models.SlugField(primary_key=True)
    title = models.CharField(max_length=200)
    current_version = models.ForeignKey(
        "DatasetVersion", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    last_version = models.PositiveIntegerField(db_default=0)  # highest ever given: none is used twice
    confirmed_at = models.DateTimeField(null=True, blank=True)  # a refresh last ended well, changed or not
    fresh_for = models.DurationField()  # as its entry said at first; the entry counts while there is one
    scheduled_at = models.DateTimeField(null=True, blank=True)  # its schedules were written from the catalogue, once

    def __str__(self) -> str:
        return self.name


class Schedule(models.Model):
    """When a dataset is refreshed by itself. Seeded from the catalogue once; then the row is the truth.

    The flow process serves what stands here, a few seconds after it was changed: see `dataplane.flows.serving`.
    """

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="schedules")
    slug = models.SlugField()  # its name among the dataset's
    cron = models.CharField(max_length=100)  # five fields
    timezone = models.CharField(max_length=60, db_default="UTC")  # IANA name
    is_active = models.BooleanField(db_default=True)

    class Meta:
        ordering = ("dataset", "slug")
        constraints = (models.UniqueConstraint(fields=("dataset", "slug"), name="one_schedule_per_slug"),)

    def __str__(self) -> str:
        return f"{self.dataset_id} {self.slug}: {self.cron} {self.timezone}"


class DatasetVersion(models.Model):
    """One published state of a dataset.

    The digest names the content: content that returns to an earlier state makes that version current again.
    """

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)  # SHA-256, hex, of all that a reader could see
    rows = models.PositiveIntegerField()
    kind = models.CharField(max_length=40, db_default="passages")  # of content, as the catalogue named it then
    embedder = models.CharField(max_length=100, blank=True, db_default="")  # a model's name; queries use the same
    published_at = models.DateTimeField(db_default=DatabaseNow())
    prefect_flow_run_id = models.CharField(max_length=36)
    parameters = models.JSONField()
    # Told by somebody else's flow, whose store holds the rows; see `dataplane.publishing`.
    location = models.CharField(max_length=500, blank=True, db_default="")  # where they are
    inputs = models.JSONField(db_default=Value([], models.JSONField()))  # [{"dataset", "version"}] or [{"asset"}]
    metadata = models.JSONField(db_default=Value({}, models.JSONField()))
    code_version = models.CharField(max_length=100, blank=True, db_default="")
    published_by = models.CharField(max_length=150, blank=True, db_default="")  # a service account; empty: its flow

    class Meta:
        ordering = ("dataset", "-version")
        constraints = (
            models.UniqueConstraint(fields=("dataset", "version"), name="one_version_per_number"),
            # Two runs that computed the same content cannot both write it, whatever happened in between.
            models.UniqueConstraint(fields=("dataset", "digest"), name="one_version_per_content"),
        )
        triggers = (pgtrigger.Protect(name="versions_are_immutable", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.dataset_id} version {self.version}"

    @property
    def shown_inputs(self) -> list[dict[str, Any]]:
        """The inputs as everybody may see them: rows of earlier releases hold credentials in keys of assets."""
        return [input_without_credentials(one) for one in self.inputs]

    @property
    def stored(self) -> Stored:
        """The version as its kind of content is told of it."""
        return Stored(self.pk, self.dataset_id, self.version, self.rows, self.embedder)


class Passage(models.Model):
    """One piece of one document, with its vector."""

    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="passages")
    position = models.PositiveIntegerField()  # from 0, in the order of documents and sections
    document = models.CharField(max_length=200)  # path below the handbook, e.g. "returns/damaged-goods.md"
    title = models.CharField(max_length=300)  # the document's
    heading = models.CharField(max_length=300, blank=True)  # the section's; empty before the first one
    text = models.TextField()
    effective = models.DateField(null=True, blank=True)  # the policy is valid from this day
    status = models.CharField(max_length=40, blank=True)  # as the document says, e.g. current, superseded
    topics = models.CharField(max_length=300, blank=True)  # comma-separated
    embedding = VectorField(dimensions=DIMENSIONS)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("version", "position"), name="one_passage_per_position"),)
        triggers = (pgtrigger.Protect(name="passages_are_immutable", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.document} #{self.position}"


class SearchIndex(models.Model):
    """An index over the vectors of one version, in a table of its own in the schema `signalbox_index`.

    The table holds copies and can be made again at any time; see `dataplane.search_index`, which moves these rows.
    """

    class State(models.TextChoices):
        BUILDING = "building"  # nobody reads it; left behind so, its flow run died
        CHECKED = "checked"  # complete and its recall measured, not yet in service
        SERVING = "serving"  # `signalbox_nearest` asks it
        REPLACED = "replaced"  # by another one; its table is dropped later
        REFUSED = "refused"  # it found too little of what an exact search finds
        DROPPED = "dropped"

    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="search_indexes")
    relation = models.CharField(max_length=63, unique=True)  # the table's name; its index is called so with _hnsw
    state = models.CharField(max_length=10, choices=State.choices)
    rows = models.PositiveIntegerField()
    links = models.PositiveIntegerField()  # pgvector's m
    effort = models.PositiveIntegerField()  # pgvector's ef_construction
    recall = models.FloatField(null=True, blank=True)  # of the five nearest by an exact search, the share it found
    questions = models.PositiveIntegerField(null=True, blank=True)  # that recall was measured with
    note = models.TextField(blank=True, db_default="")  # why it is not in service, in a sentence
    prefect_flow_run_id = models.CharField(max_length=36)
    begun_at = models.DateTimeField(db_default=DatabaseNow())
    served_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)  # replaced, refused or dropped

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("version",), condition=Q(state="serving"), name="one_index_in_service"),
        )

    def __str__(self) -> str:
        return self.relation


class SearchScore(models.Model):
    """How well one version answers the questions whose right passage is known, by one way of searching."""

    class Method(models.TextChoices):
        EXACT = "exact"
        INDEX = "index"
        ADAPTER = "adapter"  # exact, with each question turned by a retrieval adapter that has not seen it

    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="search_scores")
    method = models.CharField(max_length=10, choices=Method.choices)
    questions_digest = models.CharField(max_length=64)  # SHA-256, hex: scores of two sets of questions do not compare
    questions = models.PositiveIntegerField()
    found = models.PositiveIntegerField()  # questions whose right passage is among the first five
    mean_reciprocal_rank = models.FloatField()  # 1 when every right passage is first; 0 counts beyond the fifth
    missed = models.JSONField()  # [{"ask", "wanted": [..], "found": [..]}], names of passages
    measured_at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("version", "method", "questions_digest"), name="one_score_per_questions"),
        )

    def __str__(self) -> str:
        return f"{self.found} of {self.questions}"

    @property
    def recall(self) -> float:
        """Return the share of the questions whose right passage is among the first five."""
        return self.found / self.questions if self.questions else 0.0


class Record(models.Model):
    """One row of a version that is neither a passage nor a feature: a case to evaluate, a model's card, an index."""

    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="records")
    position = models.PositiveIntegerField()  # from 0
    name = models.CharField(max_length=300)  # by which two versions are compared; once in a version
    body = models.JSONField()  # as its kind of content says, see `dataplane.contents`
    file = models.BinaryField(null=True, blank=True)  # what is no JSON, e.g. a trained model

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("version", "position"), name="one_record_per_position"),
            models.UniqueConstraint(fields=("version", "name"), name="one_record_per_name"),
        )
        triggers = (pgtrigger.Protect(name="records_are_immutable", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return self.name


class FeatureValue(models.Model):
    """What a feature of an entity was from one moment on, and since when that is known here.

    A version holds the whole history. A value that arrives late, or corrects an earlier one, is another row.
    """

    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="feature_values")
    entity = models.CharField(max_length=200)
    feature = models.CharField(max_length=100)
    number = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)  # money and counts, exact
    text = models.CharField(max_length=1000, null=True, blank=True)  # when it is no number
    effective_at = models.DateTimeField()  # it holds in the world from then on
    known_at = models.DateTimeField()  # a flow read it then for the first time

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("version", "entity", "feature", "effective_at", "known_at"), name="one_value_per_moment"
            ),
            models.CheckConstraint(
                condition=Q(number__isnull=False, text__isnull=True) | Q(number__isnull=True, text__isnull=False),
                name="number_or_text",
            ),
        )
        indexes = (models.Index(fields=("version", "entity", "feature", "-effective_at"), name="feature_newest"),)
        triggers = (pgtrigger.Protect(name="features_are_immutable", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.entity} {self.feature}"


class Refresh(models.Model):
    """A wish to make a dataset again. The row is the outbox: `dataplane.refreshes.dispatch` hands it to Prefect."""

    Status = states.Status
    OPEN = states.OPEN

    id = models.CharField(primary_key=True, max_length=40)  # rfr_...
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="refreshes")
    key = models.CharField(max_length=100)
    parameters = models.JSONField()
    # Moved by `dataplane.refreshes.states` alone.
    status = models.CharField(
        max_length=10,
        choices=[(status.value, status.value.capitalize()) for status in states.Status],
        db_default=states.FIRST.value,
    )
    version = models.ForeignKey(
        DatasetVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="refreshes"
    )
    error = ReasonField(blank=True, db_default="")  # a sentence, when failed
    note = ReasonField(blank=True, db_default="")  # a sentence, when it ended well and published nothing
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )  # None: the schedule, or the first start
    prefect_flow_run_id = models.CharField(max_length=36, blank=True, db_default="")  # empty: not sent
    created_at = models.DateTimeField(db_default=DatabaseNow())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    send_due_at = models.DateTimeField(db_default=DatabaseNow())  # next attempt to hand it to Prefect
    send_attempts = models.PositiveIntegerField(db_default=0)
    send_error = ReasonField(blank=True, db_default="")  # why the last attempt failed
    restarts = models.PositiveIntegerField(db_default=0)  # how often its flow run died and was started again
    is_dry_run = models.BooleanField(db_default=False)  # says what would change, and publishes nothing
    preview = models.JSONField(null=True, blank=True)  # what it said: see `dataplane.contracts.DryRunPreview`
    #: why it is not sent or its flow run does not go on, see `dataplane.refreshes.standing`: {"kind", "since", ...}
    stand = models.JSONField(null=True, blank=True)
    # Of somebody else's deployment; empty: the catalogue's. Kept, for a registration may go.
    flow = models.CharField(max_length=200, blank=True, db_default="")
    deployment = models.CharField(max_length=200, blank=True, db_default="")

    class Meta:
        constraints = (
            # The same refresh twice in a day is one refresh.
            models.UniqueConstraint(fields=("dataset", "key"), name="one_refresh_per_key"),
        )
        indexes = (
            models.Index("created_at", condition=Q(status__in=("scheduled", "running")), name="refresh_open"),
            models.Index("prefect_flow_run_id", name="refresh_flow_run"),
        )

    def __str__(self) -> str:
        return f"{self.dataset_id} {self.key}"

    @property
    def is_open(self) -> bool:
        """Return whether the refresh has not ended."""
        return self.status in self.OPEN

    @property
    def is_registered(self) -> bool:
        """Return whether somebody else's deployment does it."""
        return bool(self.deployment)

    @property
    def is_adopted(self) -> bool:
        """Return whether its flow run was there first: nobody asked for it here, and it was never sent from here."""
        return self.requested_by_id is None and bool(self.prefect_flow_run_id) and not self.send_attempts


class AssetEvent(models.Model):
    """What Prefect told of an asset: somebody's flow made it, or read it. Prefect keeps these for a week."""

    id = models.CharField(primary_key=True, max_length=36)  # Prefect's own: it tells an event at least once
    at = models.DateTimeField()
    is_made = models.BooleanField()  # else it was read
    asset = models.CharField(max_length=500)  # its key, e.g. postgres://store/orders
    prefect_flow_run_id = models.CharField(max_length=36, blank=True)
    metadata = models.JSONField()  # as the flow added it
    upstream = models.JSONField()  # keys of the assets it was made from

    class Meta:
        indexes = (
            models.Index("prefect_flow_run_id", name="asset_flow_run"),
            models.Index("at", name="asset_newest"),
        )

    def __str__(self) -> str:
        return f"{self.asset} {self.at}"
