"""Who may call what: every endpoint of the JSON API asks here first."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.http import HttpRequest

from console import problems, roles


def require(request: HttpRequest, permission: str) -> User:
    """Return the asking user. Raises a 403 problem unless one of their roles carries the permission."""
    user = request.user
    if not isinstance(user, User) or not roles.may(user, permission):
        allowed = ", ".join(sorted(roles.PERMISSIONS[permission]))
        raise problems.forbidden(f"This needs one of the roles: {allowed}.", rule=permission)
    return user
