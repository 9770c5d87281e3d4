"""Working as a team: who is whom, who stands in for whom, what was said, and what is approved in advance."""

from __future__ import annotations

import pgtrigger
from django.conf import settings
from django.db import models

from approvals.models.requests import Approval
from console.clock import DatabaseNow
from console.ids import new_id


def new_standing_id() -> str:
    return new_id("std")


class AccountPerson(models.Model):
    """Which person an account belongs to, where its e-mail address does not say; see `approvals.people.persons`."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    person = models.CharField(max_length=150)

    def __str__(self) -> str:
        return f"{self.user_id} is {self.person}"


class LinkChange(models.Model):
    """A link of an account to a person that somebody wants, or wants gone; it is made once another has confirmed it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    person = models.CharField(max_length=150, blank=True)  # empty: the account is to have no link
    reason = models.CharField(max_length=300)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField(db_default=DatabaseNow())
    settled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    settled_at = models.DateTimeField(null=True, blank=True)
    is_confirmed = models.BooleanField(default=False, db_default=False)

    class Meta:
        verbose_name = "change of a link"
        verbose_name_plural = "changes of links"

    def __str__(self) -> str:
        return f"{self.user} is to be {self.person}" if self.person else f"{self.user} is to have no link"


class Delegation(models.Model):
    """From `starts_at` to `ends_at`, `delegate` may decide what `principal` may, once it is confirmed."""

    principal = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    delegate = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300, blank=True)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField(db_default=DatabaseNow())
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Who made one for somebody else needs another's word: the principal's, or a second admin's.
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    confirmed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (models.Index(fields=("delegate", "ends_at"), name="delegation_of_delegate"),)

    def __str__(self) -> str:
        return f"{self.delegate_id} for {self.principal_id}"

    @property
    def is_confirmed(self) -> bool:
        """Return whether it holds at its time: the principal made it, or somebody besides its maker confirmed it."""
        return self.made_by_id == self.principal_id or self.confirmed_by_id is not None


class Comment(models.Model):
    """Something said about an approval. Never changed, never removed, never shown to the agent."""

    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="comments")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        triggers = (pgtrigger.Protect(name="comment_stays", operation=pgtrigger.Update | pgtrigger.Delete),)

    def __str__(self) -> str:
        return f"{self.by_id} on {self.approval_id}"


class StandingApproval(models.Model):
    """Approved in advance: one tool of one agent, with conditions on its arguments; counted, expiring, revocable."""

    id = models.CharField(primary_key=True, max_length=40, default=new_standing_id)
    agent = models.CharField(max_length=100)
    tool = models.CharField(max_length=100)
    #: [{"path": "order_id", "is": <JSON>} | {"path": "amount", "at_most": "100.00"}]; every path of the arguments
    #: is named, so that nothing unforeseen is approved
    conditions = models.JSONField()
    reason = models.CharField(max_length=500)
    made_from = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="+")
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField(db_default=DatabaseNow())
    expires_at = models.DateTimeField()
    uses = models.PositiveIntegerField(default=0)
    uses_at_most = models.PositiveIntegerField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        indexes = (models.Index(fields=("agent", "tool", "expires_at"), name="standing_of_tool"),)

    def __str__(self) -> str:
        return f"{self.tool} of {self.agent}"


class SavedView(models.Model):
    """An inbox query under a name, kept on the server: a person's own, or shared with everybody."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=1000)  # the address's query string
    is_shared = models.BooleanField(default=False)
    made_at = models.DateTimeField(db_default=DatabaseNow())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("owner", "name"), name="each_view_name_once"),)

    def __str__(self) -> str:
        return self.name
