"""A browser without a screen: somebody signed in, and what a page says."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client


def signed_in(user: User, **options: Any) -> Client:
    """Return the client of somebody who is signed in. `options`: Django's own."""
    client = Client(**options)
    client.force_login(user)
    return client


def text(response: Any) -> str:
    """Return the page as text."""
    return str(response.content.decode())
