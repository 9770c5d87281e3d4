"""The inbox: lists of approvals, what stands around them, and what is found of them."""

from __future__ import annotations

from approvals.inbox.asked import Asked, asked_of, filters_of, read_asked
from approvals.inbox.listing import (
    Filters,
    Page,
    approvals_page,
    counts_of_same,
    pending_count_for,
    pending_values,
)
from approvals.inbox.pane import TABS, Inbox, TabKind, found, inbox_for, may_pick
from approvals.inbox.saved import Saved, change_view, delete_view, save_view, saved_for

__all__ = [
    "TABS",
    "Asked",
    "Filters",
    "Inbox",
    "Page",
    "Saved",
    "TabKind",
    "approvals_page",
    "asked_of",
    "change_view",
    "counts_of_same",
    "delete_view",
    "filters_of",
    "found",
    "inbox_for",
    "may_pick",
    "pending_count_for",
    "pending_values",
    "read_asked",
    "save_view",
    "saved_for",
]
