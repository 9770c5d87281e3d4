"""What the frame itself keeps: tokens, the outbox, and which parts were seen alive."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from console.clock import DatabaseNow


class ApiToken(models.Model):
    """A key for the JSON API. Only its SHA-256 is kept; it never has more rights than its owner."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True)  # hex SHA-256 of the token
    label = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(db_default=DatabaseNow())
    revoked_at = models.DateTimeField(null=True, blank=True)
    first_used_at = models.DateTimeField(null=True, blank=True)
    first_used_from = models.CharField(max_length=45, blank=True, default="", db_default="")  # the caller's address

    def __str__(self) -> str:
        return f"token {self.pk} of {self.owner}"


class SignInCount(models.Model):
    """How often something was tried in vain lately; see `console.tries`. A row is removed when its time is over."""

    scope = models.CharField(max_length=10)  # one of console.tries.LIMITS
    account = models.CharField(max_length=20, blank=True)  # an account's id, or unknown-<n>
    place = models.CharField(max_length=50, blank=True)  # an address or network, or a device's id
    since = models.DateTimeField()
    count = models.PositiveIntegerField()
    told = models.PositiveIntegerField(default=0)  # how many of them the record knows of

    class Meta:
        constraints = (models.UniqueConstraint(fields=("scope", "account", "place"), name="one_count_of_tries"),)
        indexes = (models.Index(fields=("since",), name="tries_by_age"),)

    def __str__(self) -> str:
        return f"{self.scope} {self.account} {self.place}: {self.count}"


class OutboxEntry(models.Model):
    """One message that must reach an engine; see `console.outbox`."""

    kind = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    payload = models.JSONField()
    created_at = models.DateTimeField(db_default=DatabaseNow())
    due_at = models.DateTimeField(db_default=DatabaseNow())  # not before this; moved on by each failure
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "outbox entries"
        indexes = (models.Index(fields=("due_at",), condition=Q(delivered_at=None), name="outbox_open"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class PartHeartbeat(models.Model):
    """The last time one process of one part said that it is alive, and whether it could do its work."""

    part = models.CharField(max_length=40)  # worker, relay, flows
    instance = models.CharField(max_length=100)  # host and pid
    ok = models.BooleanField(default=True, db_default=True)  # it can do what it is for
    detail = models.CharField(max_length=300, blank=True)
    last_seen_at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("part", "instance"), name="one_heartbeat_per_process"),)

    def __str__(self) -> str:
        return f"{self.part} {self.instance}"


class Presence(models.Model):
    """One open page that shows one thing; see `console.live.presence`. Unlogged: nothing here has to last."""

    topic = models.CharField(max_length=300)  # approval:<id>
    socket = models.CharField(max_length=40)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    backend_pid = models.IntegerField()  # of the web process's listening connection
    backend_started_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("socket", "topic"), name="one_looker_per_socket"),)
        indexes = (models.Index(fields=("topic",), name="presence_by_topic"),)

    def __str__(self) -> str:
        return f"{self.user_id} at {self.topic}"


class DrillResult(models.Model):
    """What one failure test found; see `console.drill_results`."""

    name = models.CharField(max_length=60)
    trials = models.PositiveIntegerField()
    failures = models.PositiveIntegerField()
    detail = models.JSONField(default=dict)
    ran_at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        indexes = (
            models.Index(
                fields=(
                    "name",
                    "-ran_at",
                ),
                name="drill_by_name",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.failures} of {self.trials}"


class PreparedTables(models.Model):
    """Which code last brought these tables up to date; one row, see `console.prepared`."""

    fingerprint = models.CharField(max_length=64)
    prepared_at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="one_row_of_prepared_tables"),)

    def __str__(self) -> str:
        return self.fingerprint
