"""What the frame around every page shows. Costs four small queries (health is asked every
3 s at most), and never fails the page inside it."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User
from django.db import DatabaseError
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from console import health, ports, roles
from console.lists.capped import capped

SECTIONS = {"approvals": "inbox", "orchestration": "runs", "dataplane": "data", "console": "system"}
#: pages that stand apart
ADMINISTRATION = {
    "approvals:record": "record",
    "approvals:verify_record": "record",
    "approvals:reviewers": "team",
    "approvals:delegations": "team",
    "approvals:delegate": "team",
    "approvals:confirm_delegation": "team",
    "approvals:standing": "team",
    "approvals:standing_one": "team",
    "orchestration:signals": "team",
    "orchestration:programs": "team",
    "orchestration:make_secret": "team",
    "orchestration:batches": "batches",
    "orchestration:start_batch": "batches",
    "orchestration:batch": "batches",
    "orchestration:act_on_batch": "batches",
    "orchestration:storage": "system",
    "approvals:policy": "policy",
    "approvals:policy_edit": "policy",
    "approvals:policy_version": "policy",
    "approvals:policy_settle": "policy",
}


@dataclass(frozen=True)
class Frame:
    """The frame of one page."""

    section: str  # inbox, runs, data, system, one of ADMINISTRATION, or "" outside of them
    name: str
    roles: tuple[str, ...]
    may_see: bool
    pending: int | None  # at most COUNT_CAP; None: not known now
    notices: tuple[str, ...] = ()  # what to know of parts that are away
    may_audit: bool = False
    stopped: int = 0  # decisions of one's own that did not take effect
    stuck: int = 0  # runs that need somebody, at most COUNT_CAP

    @property
    def stuck_label(self) -> str:
        """Return how many runs are stuck for the badge, empty for none."""
        return capped(self.stuck) if self.stuck else ""

    @property
    def pending_label(self) -> str:
        """Return the number for the badge, empty when nothing waits."""
        return capped(self.pending) if self.pending else ""


def frame(request: HttpRequest) -> dict[str, object]:
    """Context processor: `frame`, asked of the database only if the template shows it."""
    return {"frame": SimpleLazyObject(lambda: frame_for(request))}


def frame_for(request: HttpRequest) -> Frame:
    """Return the frame for who asks; without a database, one that claims nothing."""
    match = request.resolver_match
    section = (ADMINISTRATION.get(match.view_name) or SECTIONS.get(match.namespace, "")) if match else ""
    try:
        user = request.user
        if not isinstance(user, User):
            return Frame(section, "", (), False, None)
        may_see = roles.may(user, "see")
        pending = ports.requests().pending_count(user) if may_see else None
        notices = tuple(health.notices()) if may_see else ()
        name, may_audit = user.get_full_name() or user.username, roles.may(user, "audit")
        stopped = ports.requests().stopped_count(user) if may_see else 0
        stuck = ports.runs().stuck_count() if may_see else 0
        return Frame(section, name, _held(user), may_see, pending, notices, may_audit, stopped, stuck)
    except DatabaseError:
        return Frame(section, "", (), False, None)


def _held(user: User) -> tuple[str, ...]:
    held = roles.roles_of(user)
    return tuple(role for role in roles.ROLES if role in held)
