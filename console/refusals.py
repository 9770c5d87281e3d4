"""What people and programs are told when something cannot be done: each error class says with which status.

A view lets it pass, or catches it to draw its own page again with `exc.http_status` and `exc.sentence`. What passes is
told to people in words by `console.middleware.errors_in_words`, and to programs as a problem by `console.api`.
"""

from __future__ import annotations

from typing import Any, ClassVar


class Refused(Exception):
    """Something cannot be done, for a reason that whoever asks may read."""

    http_status: ClassVar[int] = 409
    title: ClassVar[str] = "Not possible now"

    @property
    def sentence(self) -> str:
        """Return the reason."""
        return str(self)

    @property
    def detail(self) -> str:
        """Return the reason as programs read it."""
        return self.sentence

    @property
    def field(self) -> str:
        """Return the name of the input at fault, "" where none is."""
        return ""

    def facts(self) -> dict[str, Any]:
        """Return what a program gets beside the reason: public names, see the API's promises."""
        return {}


class NotFound(Refused):
    """There is nothing of this kind here, or whoever asks may not see it."""

    http_status = 404
    title = "Not found"
    what: ClassVar[str] = "such thing"

    @property
    def detail(self) -> str:
        return f"There is no {self.what} here, or you may not see it."


class Invalid(Refused):
    """Input that cannot be taken; `errors`: [{"path", "message"}], the first one is told first."""

    http_status = 422
    title = "Invalid input"
    errors: list[dict[str, Any]]

    @property
    def sentence(self) -> str:
        return str(self.errors[0]["message"])

    @property
    def detail(self) -> str:
        return f"{self.errors[0]['path'] or 'body'}: {self.errors[0]['message']}"

    @property
    def field(self) -> str:
        return str(self.errors[0]["path"])

    def facts(self) -> dict[str, Any]:
        return {"errors": self.errors}


class EngineAway(Refused):
    """An engine, or PostgreSQL, cannot be reached; trying again can help."""

    http_status = 503
    engine: ClassVar[str]
    still_works: ClassVar[str]  # what to do or what goes on meanwhile

    @property
    def detail(self) -> str:
        return f"{self.engine.capitalize()} cannot be reached. {self.still_works}"

    def facts(self) -> dict[str, Any]:
        return {"engine": self.engine, "retry_after_seconds": 5}
