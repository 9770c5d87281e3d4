"""What superusers may change in Django's own admin. Nothing that decides, and nothing that is not on the record."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from approvals import audit
from approvals.models import AccountPerson
from console.http import person


@admin.register(AccountPerson)
class AccountPersonAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for the checker only
    """Which accounts belong to one person. The admin's views hold a transaction around each change."""

    list_display = ("user", "person")
    ordering = ("person", "user__username")
    search_fields = ("person", "user__username")
    autocomplete_fields = ("user",)

    def save_model(self, request: HttpRequest, obj: AccountPerson, form: Any, change: bool) -> None:
        before = AccountPerson.objects.select_related("user").filter(pk=obj.pk).first()
        if before is not None and before.user_id != obj.user_id:  # the link was moved to another account
            _record(request, "person.unlinked", before)
        super().save_model(request, obj, form, change)
        _record(request, "person.linked", obj)

    def delete_model(self, request: HttpRequest, obj: AccountPerson) -> None:
        _record(request, "person.unlinked", obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AccountPerson]) -> None:
        for link in queryset.select_related("user"):
            self.delete_model(request, link)


def _record(request: HttpRequest, kind: str, link: AccountPerson) -> None:
    body = {"account": link.user.username, "person": link.person}
    audit.record(actor=person(request).username, kind=kind, subject=f"account:{link.user_id}", body=body)
