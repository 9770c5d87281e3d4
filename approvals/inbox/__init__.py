"""The inbox: lists of approvals, what stands around them, and what is found of them."""

from __future__ import annotations

from approvals.inbox.listing import Filters, Page, approvals_page, pending_count_for
from approvals.inbox.pane import Asked, Inbox, filters_of, found, inbox_for, read_asked

__all__ = [
    "Asked",
    "Filters",
    "Inbox",
    "Page",
    "approvals_page",
    "filters_of",
    "found",
    "inbox_for",
    "pending_count_for",
    "read_asked",
]
