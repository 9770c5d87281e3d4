"""What superusers may change in Django's own admin. Nothing that decides; the database records each change."""

from __future__ import annotations

from django.contrib import admin

from approvals.models import AccountPerson


@admin.register(AccountPerson)
class AccountPersonAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic for the checker only
    """Which accounts belong to one person. The admin's views hold a transaction around each change."""

    list_display = ("user", "person")
    ordering = ("person", "user__username")
    search_fields = ("person", "user__username")
    autocomplete_fields = ("user",)
