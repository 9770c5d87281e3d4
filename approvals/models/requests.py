"""Requests to decide, and the versions of what is proposed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import Case, Func, Q, Value, When

from approvals.proposal.canonical import digest_of, read_canonical
from approvals.proposal.fixed import fixed_in
from approvals.proposal.terms import Terms
from console.clock import DatabaseNow
from console.ids import new_id


def new_approval_id() -> str:
    return new_id("apr")


class Risk(models.TextChoices):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Verdict(models.TextChoices):
    APPROVE = "approve"
    EDIT = "edit"
    REJECT = "reject"
    RESPOND = "respond"


class Approval(models.Model):
    """A request to decide one proposal. `canonical` is the truth; everything shown is rendered from it."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DECIDED = "decided"
        EXPIRED = "expired"  # nobody decided in time; not a rejection
        WITHDRAWN = "withdrawn"  # the run ended first

    class Kind(models.TextChoices):
        ACTION = "action"  # may the agent do this?
        OUTCOME = "outcome"  # did an effect whose end nobody saw happen? approve = it did, reject = it did not
        QUESTION = "question"  # the agent wants an answer; nothing is run for it
        GO_ON = "go_on"  # the agent stopped between two steps; may it go on? a rejection ends its run

    class Source(models.TextChoices):
        AGENT = "agent"  # a registered agent's run
        PROGRAM = "program"  # somebody else's workflow or program, through the API

    id = models.CharField(primary_key=True, max_length=40, default=new_approval_id)
    external_id = models.CharField(
        max_length=300, unique=True
    )  # run id + interrupt id and place: a retry opens nothing twice
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.ACTION)
    source = models.CharField(max_length=10, choices=Source, default=Source.AGENT)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    version = models.PositiveIntegerField(default=1)  # the current one; an edit or other terms make a new one
    canonical = models.BinaryField()  # RFC 8785 JSON of the current version, see approvals.proposal.canonical
    digest = models.CharField(max_length=64)  # hex SHA-256 of canonical

    tool = models.CharField(max_length=100)
    summary = models.CharField(
        max_length=500
    )  # the action in one sentence, by the tool's own renderer; see approvals.proposal.summary
    agent_words = models.TextField(blank=True)  # untrusted
    arguments_schema = models.JSONField(default=dict)
    answer_schema = models.JSONField(default=dict, db_default={})  # of an answer in the tool's place; {} takes anything
    tool_is_known = models.BooleanField(default=True)
    tool_risk = models.CharField(max_length=10, choices=Risk, default=Risk.HIGH)  # as the tool declares it
    risk = models.CharField(max_length=10, choices=Risk, default=Risk.HIGH)  # what the policy makes of it
    risk_rank = models.GeneratedField(  # 0 is the highest, so that one ascending index orders the inbox
        expression=Case(When(risk="high", then=Value(0)), When(risk="medium", then=Value(1)), default=Value(2)),
        output_field=models.SmallIntegerField(),
        db_persist=True,
    )

    agent = models.CharField(max_length=100)
    agent_owners = models.JSONField(default=list)  # user names
    run_id = models.CharField(max_length=200, db_index=True)  # = Temporal workflow id = LangGraph thread id
    batch = models.CharField(max_length=40, null=True, blank=True)  # the id of what started the run among others
    interrupt_id = models.CharField(max_length=100)  # "" for a program's
    interrupt_place = models.PositiveSmallIntegerField(default=0, db_default=0)  # among those that it asks, from 0
    checkpoint_id = models.CharField(max_length=100, blank=True)
    dialect = models.CharField(max_length=40, default="own", db_default="own")  # the form in which the agent asked
    is_tracked = models.BooleanField(default=True, db_default=True)  # what is approved goes through the effect ledger
    dataset_versions = models.JSONField(default=list)  # [{"dataset", "version"}] read before proposing
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )  # who started the run; never decides it

    policy_version = models.CharField(max_length=40)
    terms = models.JSONField(default=dict)  # approvals.proposal.terms.Terms, as the rule gave them
    audience = models.JSONField(default=list)  # roles; the ladder may add some
    people = models.JSONField(default=list)  # user names that may decide besides
    verdicts = models.JSONField(default=list)  # allowed ones
    needed = models.PositiveSmallIntegerField(default=1)  # different people who must agree
    ladder = models.JSONField(default=list)  # [{"step": remind|escalate|expire, "at": RFC 3339}], as they are taken
    steps_climbed = models.PositiveSmallIntegerField(default=0)

    opened_at = models.DateTimeField()
    due_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    # Both follow from the receipt's steps; see approvals.services.receipts.
    took_effect_at = models.DateTimeField(null=True, blank=True)  # it was done, or the run has the answer
    expected_by = models.DateTimeField(null=True, blank=True)  # the next step is late from then on; null: none to come

    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )  # a soft lock: shown to the others, never in their way
    claimed_at = models.DateTimeField(null=True, blank=True)
    is_seeded = models.BooleanField(default=False)  # a harmless request to keep reviewers awake; never executed
    deliver_to = models.JSONField(null=True, blank=True)  # where a program wants its answer, see docs/programs.md
    #: by a program: {"audience": [names], "verdicts": [those it takes; empty: all], "body_digest", "reports": whether
    #: it will say what came of it}; in an agent's interrupt: {"verdicts": [those its form can carry], "call_id",
    #: "places": how many it asks about, "model": that had the agent ask, "server": the agent server it runs on,
    #: "thread": its thread there}
    asked = models.JSONField(default=dict)

    # Kept by the database, for lists; the functions are made in the migration that adds them.
    search_words = models.GeneratedField(  # of the ids, tool, agent, summary, and the first 16,000 letters of arguments
        expression=Func(
            *("id", "external_id", "tool", "agent", "run_id", "summary", "canonical"),
            function="signalbox_search_words",
        ),
        output_field=SearchVectorField(),
        db_persist=True,
    )
    deciders = models.GeneratedField(  # audience and people as one: "group:reviewer", "name:alice"
        expression=Func("audience", "people", function="signalbox_deciders"),
        output_field=ArrayField(models.TextField()),
        db_persist=True,
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=("run_id", "interrupt_id", "interrupt_place"),
                condition=~Q(interrupt_id=""),
                name="one_approval_per_place",
            ),
        )
        indexes = (
            models.Index(
                fields=(
                    "due_at",
                    "id",
                ),
                condition=Q(status="pending"),
                name="approval_pending",
            ),
            models.Index(  # see console.in_flight
                fields=("requested_by",),
                condition=Q(status="pending", source="program"),
                name="approval_in_flight",
            ),
            models.Index(fields=("due_at",), condition=Q(is_seeded=True, status="pending"), name="approval_seeded"),
            models.Index(
                fields=(
                    "-closed_at",
                    "-id",
                ),
                condition=~Q(status="pending"),
                name="approval_closed",
            ),
            models.Index(
                fields=(
                    "status",
                    "-opened_at",
                    "-id",
                ),
                name="approval_by_status",
            ),
            models.Index(
                fields=(
                    "expected_by",
                    "id",
                ),
                condition=Q(expected_by__isnull=False),
                name="approval_on_its_way",
            ),
            # The orders of the inbox, whole and within one tool or agent.
            models.Index(
                fields=("risk_rank", "due_at", "opened_at", "id"), condition=Q(status="pending"), name="approval_inbox"
            ),
            models.Index(
                fields=("tool", "risk_rank", "due_at", "opened_at", "id"),
                condition=Q(status="pending"),
                name="approval_inbox_of_tool",
            ),
            models.Index(
                fields=("agent", "risk_rank", "due_at", "opened_at", "id"),
                condition=Q(status="pending"),
                name="approval_inbox_of_agent",
            ),
            # Identical pending requests, the first one first.
            models.Index(
                fields=("digest", "risk_rank", "due_at", "opened_at", "id"),
                condition=Q(status="pending"),
                name="approval_same",
            ),
            models.Index(
                fields=("batch", "risk_rank", "due_at", "opened_at", "id"),
                condition=Q(status="pending", batch__isnull=False),
                name="approval_inbox_of_batch",
            ),
            models.Index(fields=("-opened_at", "-id"), name="approval_newest"),
            GinIndex(fields=("search_words",), name="approval_words", fastupdate=False),
            GinIndex(fields=("deciders",), condition=Q(status="pending"), name="approval_deciders"),
        )

    def __str__(self) -> str:
        return f"{self.id} {self.summary}"

    @property
    def is_open(self) -> bool:
        """Return whether it waits for people. One that is past its deadline does until the ladder's last step."""
        return self.status == self.Status.PENDING

    @property
    def next_step_at(self) -> datetime | None:
        """When the next step of its ladder is due; `None` once it is closed."""
        if not self.is_open:
            return None
        rung = self.ladder[min(self.steps_climbed, len(self.ladder) - 1)]
        return datetime.fromisoformat(rung["at"])

    @property
    def given_terms(self) -> Terms:
        """Return the terms that it stands under, read from `terms` each time: a change puts it under others."""
        return Terms.from_json(self.terms)

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the current version, read from its bytes each time. What is returned is a copy."""
        return read_canonical(bytes(self.canonical))[1]

    @property
    def fixed_arguments(self) -> list[str]:
        """Return the names of the arguments that say which request it is; see `approvals.proposal.fixed`."""
        return fixed_in(self.arguments_schema)

    @property
    def climbed(self) -> list[str]:
        """Return the steps of the ladder that were taken: "remind", "escalate"."""
        return [rung["step"] for rung in self.ladder[: self.steps_climbed]]

    @property
    def is_fetched(self) -> bool:
        """Return whether its program fetches the answer, for it named nothing that it could be sent to."""
        return self.source == self.Source.PROGRAM and self.deliver_to is None

    @property
    def agent_server(self) -> str:
        """Return the name of the agent server on which the agent runs, "" where it runs in our own workers."""
        return str(self.asked.get("server", ""))

    @property
    def shown_digest(self) -> str:
        """Return the digest of the bytes as they were read: what is sent back with a decision is about these."""
        return digest_of(bytes(self.canonical))


class ProposalVersion(models.Model):
    """One version of what an approval is about. Never changed, never removed; the first is the agent's own."""

    class Reason(models.TextChoices):
        PROPOSED = "proposed"
        EDITED = "edited"  # a reviewer changed the arguments
        TERMS = "terms"  # the policy changed: the same bytes under other terms

    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="versions")
    version = models.PositiveIntegerField()
    reason = models.CharField(max_length=10, choices=Reason, default=Reason.PROPOSED)
    canonical = models.BinaryField()
    digest = models.CharField(max_length=64)
    summary = models.CharField(max_length=500)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )  # the editor
    detail = models.CharField(max_length=500, blank=True)  # for `terms`: what changed, in words
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("approval", "version"), name="each_version_once"),)
        triggers = (pgtrigger.Protect(name="version_stays", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.approval_id} version {self.version}"
