"""What a saved view may be called, of the inbox and of the list of runs alike."""

from __future__ import annotations

from approvals.errors import InvalidChange


def checked_view_name(name: str) -> str:
    """Return the name with single spaces. Raises InvalidChange for one that is empty, too long, or does not show."""
    name = " ".join(name.split())
    if not name:
        raise InvalidChange("name", "Give the view a name.")
    if len(name) > 60:
        raise InvalidChange("name", f"At most 60 characters; this has {len(name)}.")
    if not name.isprintable():
        raise InvalidChange("name", "The name holds a character that does not show; remove it.")
    return name
