"""The roles people have and what each may do. Every permission check of the console asks here.

A role is a Django group of the same name. A superuser has every role but `service`, and no rule names
superusers, so that the four-eyes checks of `approvals.people.permissions` hold for them too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

Role = Literal["reviewer", "operator", "admin", "service"]
ROLES: Final[tuple[Role, ...]] = ("reviewer", "operator", "admin", "service")

#: what may be done, and by which roles
PERMISSIONS: Final[dict[str, frozenset[Role]]] = {
    "see": frozenset({"reviewer", "operator", "admin"}),  # inbox, runs, data, system
    "decide": frozenset({"reviewer", "admin"}),  # further narrowed by each approval's audience
    "see_approvals": frozenset({"reviewer", "operator", "admin", "service"}),  # a service sees its own only
    "see_runs": frozenset({"reviewer", "operator", "admin", "service"}),  # a service sees its own only
    "start_run": frozenset({"operator", "admin", "service"}),
    "act_on_run": frozenset({"operator", "admin"}),  # cancel or end it
    "refresh": frozenset({"admin"}),
    "refresh_for_run": frozenset({"reviewer", "operator", "admin"}),  # besides: they may decide or act on that run
    "read_features": frozenset({"operator", "admin", "service"}),  # values of the data plane's features
    "start_deployment": frozenset({"reviewer", "operator", "admin"}),  # further narrowed by each registration
    "act_on_flow_run": frozenset({"admin"}),
    "see_flow_run_work": frozenset({"operator", "admin"}),  # artifacts and tasks: what other people's flows say
    "publish_version": frozenset({"service"}),  # further narrowed by each registration
    "redrive": frozenset({"operator", "admin"}),  # what was decided and stands still; besides, those who decided it
    "audit": frozenset({"admin"}),  # the record of everything
    "policy": frozenset({"admin"}),  # change who may decide what
    "settle_signal": frozenset({"admin"}),  # which signals are sent for which service account
    "webhook_secrets": frozenset({"admin"}),  # make and retire what a service account's webhooks are signed with
    "request_approval": frozenset({"service"}),
}


def roles_of(user: AbstractBaseUser | AnonymousUser) -> frozenset[str]:
    """Return the user's roles; none for strangers and disabled accounts. One query, kept on the user object."""
    if not isinstance(user, User) or not user.is_active:
        return frozenset()
    kept: frozenset[str] | None = getattr(user, "_signalbox_roles", None)
    return kept if kept is not None else keep_roles(user, user.groups.values_list("name", flat=True))


def keep_roles(user: User, groups: Iterable[str]) -> frozenset[str]:
    """Keep the roles that the groups give, on the user object, for the length of one request; return them."""
    kept = frozenset(groups) & frozenset(ROLES) | ({"reviewer", "operator", "admin"} if user.is_superuser else set())
    user._signalbox_roles = kept  # type: ignore[attr-defined]  # a cache for the length of one request
    return kept


def may(user: AbstractBaseUser | AnonymousUser, permission: str) -> bool:
    """Return whether one of the user's roles carries the permission. Raises KeyError for an unknown permission."""
    return bool(roles_of(user) & PERMISSIONS[permission])


def has_role(user: AbstractBaseUser | AnonymousUser, *roles: Role) -> bool:
    """Return whether the user has at least one of the roles."""
    return bool(roles_of(user) & set(roles))
