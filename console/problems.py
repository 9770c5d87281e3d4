"""Errors of the JSON API: `application/problem+json`, RFC 9457."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, JsonResponse

from console.refusals import Refused


class Problem(Exception):
    """An answer other than success. `extra` holds what the case needs, e.g. `errors`, `engine`, `decided_by`."""

    def __init__(self, status: int, title: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.extra = status, title, detail, extra


def problem_response(problem: Problem) -> JsonResponse:
    """Render the problem; field names may not replace the standard ones."""
    body = {
        **problem.extra,
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    response = JsonResponse(body, status=problem.status, content_type="application/problem+json")
    if "retry_after_seconds" in problem.extra:
        response["Retry-After"] = str(problem.extra["retry_after_seconds"])
    return response


def of(refused: Refused, **more: Any) -> Problem:
    """Return the problem that an error is told as."""
    return Problem(refused.http_status, refused.title, refused.detail, **refused.facts(), **more)


def not_found(what: str) -> Problem:
    return Problem(404, "Not found", f"There is no {what} here, or you may not see it.")


def forbidden(detail: str, **extra: Any) -> Problem:
    return Problem(403, "Not allowed", detail, **extra)


def invalid(errors: list[dict[str, str]]) -> Problem:
    """Refuse input; `errors`: `[{"path", "message"}]`."""
    first = errors[0]
    return Problem(422, "Invalid input", f"{first['path'] or 'body'}: {first['message']}", errors=errors)


def too_many(detail: str, retry_after_seconds: int) -> Problem:
    return Problem(429, "Too many", detail, retry_after_seconds=retry_after_seconds)


def engine_away(engine: str, still_works: str, retry_after_seconds: int = 5) -> Problem:
    return Problem(
        503,
        f"{engine.capitalize()} is away",
        f"{engine.capitalize()} cannot be reached. {still_works}",
        engine=engine,
        retry_after_seconds=retry_after_seconds,
    )


def database_away(request: HttpRequest) -> Problem:
    """Say that Postgres is away. A change that was cut off may be recorded all the same."""
    if request.method in ("GET", "HEAD"):
        return engine_away("postgres", "Send the same request again.")
    told = "It is not certain that this was recorded; send the same request again, under the same key if it has one."
    return engine_away("postgres", told)


def handle(request: HttpRequest, problem: Problem) -> JsonResponse:
    return problem_response(problem)
