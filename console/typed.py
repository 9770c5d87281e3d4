"""What somebody typed into a form that could not be taken, so that no page throws it away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.request import RawPostDataException

_SECRET = re.compile(r"password|secret|token", re.IGNORECASE)  # the CSRF token among them
_LONGEST = 20_000


@dataclass(frozen=True)
class TypedField:
    """One field of a form as it was sent."""

    name: str
    value: str

    @property
    def is_long(self) -> bool:
        return "\n" in self.value or len(self.value) > 80


def typed_fields(request: HttpRequest) -> list[TypedField]:
    """Return the fields that were sent, without secrets."""
    if request.method != "POST":
        return []
    try:
        sent = [(name, value) for name, values in request.POST.lists() for value in values]
    except (MultiPartParserError, RawPostDataException, OSError):
        return []
    return [TypedField(name, str(value)[:_LONGEST]) for name, value in sent if not _SECRET.search(name)]


def came_from_here(request: HttpRequest) -> bool:
    """Say whether one of our own pages sent the form. A stranger's form is never offered to be sent again."""
    source = request.headers.get("Origin") or request.headers.get("Referer") or ""
    return bool(source) and urlsplit(source).netloc == request.get_host()
