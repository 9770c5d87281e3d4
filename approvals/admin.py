"""What superusers may do in Django's own admin. Nothing that decides; the database records each change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from approvals import services
from approvals.errors import ApprovalError, InvalidChange, NotTheirs
from approvals.models import AccountPerson, LinkChange
from console.http import person


class _Unchanged(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for the checker only
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AccountPerson)
class AccountPersonAdmin(_Unchanged):
    """Which accounts belong to one person: to read. They change by `LinkChange`, once two people want it."""

    list_display = ("user", "person")
    ordering = ("person", "user__username")
    search_fields = ("person", "user__username")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class _LinkChangeForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the checker only
    """Saving is the service's: what it refuses stands beside the field."""

    by: Any = None  # set by the admin, for each request a class of its own

    class Meta:
        model = LinkChange
        fields = ("user", "person", "reason")
        help_texts = {
            "person": "Accounts with the same name here are one person. Empty: the account is to have no link.",
            "reason": "Who confirms it reads this.",
        }

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if not self.errors:
            try:
                self.instance = services.propose_link(**given, by=self.by)
            except (InvalidChange, NotTheirs) as exc:
                self.add_error(exc.field if isinstance(exc, InvalidChange) else None, exc.sentence)
        return given

    def _post_clean(self) -> None:
        """Nothing: the row is there, or was refused."""


@admin.register(LinkChange)
class LinkChangeAdmin(_Unchanged):
    """Changes of who is one person with whom. One superuser asks for it, another confirms it."""

    list_display = ("user", "person", "reason", "made_by", "made_at", "is_confirmed", "settled_by", "settled_at")
    list_filter = ("is_confirmed",)
    ordering = ("-made_at",)
    autocomplete_fields = ("user",)
    actions = ("confirm", "drop")
    form = _LinkChangeForm

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return type("_ByOne", (super().get_form(request, obj, change, **kwargs),), {"by": person(request)})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Nothing: the form's service has saved it."""

    @admin.action(description="Confirm: two people want it")
    def confirm(self, request: HttpRequest, chosen: QuerySet[LinkChange]) -> None:
        self._each(request, chosen, services.confirm_link, "Confirmed")

    @admin.action(description="Take back")
    def drop(self, request: HttpRequest, chosen: QuerySet[LinkChange]) -> None:
        self._each(request, chosen, services.drop_link, "Taken back")

    def _each(self, request: HttpRequest, chosen: Any, settle: Callable[..., LinkChange], done: str) -> None:
        for one in chosen.order_by("pk"):
            try:
                settle(change_id=one.pk, by=person(request))
            except ApprovalError as exc:
                self.message_user(request, f"{one}: {exc.sentence}", messages.ERROR)
            else:
                self.message_user(request, f"{done}: {one}.")
