"""The inbox: lists of approvals, what stands around them, and what is found of them."""

from __future__ import annotations

from approvals.inbox.listing import (
    Filters,
    Page,
    approvals_page,
    counts_of_same,
    pending_count_for,
    pending_values,
)
from approvals.inbox.pane import Asked, Inbox, filters_of, found, inbox_for, read_asked

__all__ = [
    "Asked",
    "Filters",
    "Inbox",
    "Page",
    "approvals_page",
    "counts_of_same",
    "filters_of",
    "found",
    "inbox_for",
    "pending_count_for",
    "pending_values",
    "read_asked",
]
