"""Who else looks at an approval: people with its page open now, in whichever web process."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import User

from console.live import presence


@dataclass(frozen=True)
class Person:
    """Somebody else at the same page."""

    username: str
    name: str


def also_looking(user: User, approval_id: str) -> list[Person]:
    """Return who has the approval's page open besides the user, by name. One query.

    For a page that was allowed to show the approval; being on the list needs a socket, which needs the right to see.
    """
    lookers = presence.lookers_at(f"{presence.KIND}{approval_id}")
    return [Person(looker.username, looker.name) for looker in lookers if looker.user_id != user.pk]
