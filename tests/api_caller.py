"""Call the JSON API as somebody, as a program would: with a token, or with a browser's session and its CSRF rule."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from console import tokens


class Caller:
    """Somebody who calls the API; `None` is a stranger."""

    def __init__(self, user: User | None = None, *, token: str = "") -> None:
        self._client = Client(enforce_csrf_checks=True)
        if user is not None and not token:
            token = tokens.create_token(owner=user)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def raise_errors(self, wanted: bool) -> None:
        """Return whether an error of a view reaches the test or becomes an answer."""
        self._client.raise_request_exception = wanted

    def get(self, path: str, **query: Any) -> Any:
        return self._client.get(f"/api/v1/{path}", query, headers=self._headers)

    def post(self, path: str, body: Any = None, *, key: str = "") -> Any:
        headers = self._headers | ({"Idempotency-Key": key} if key else {})
        return self._client.post(f"/api/v1/{path}", body, content_type="application/json", headers=headers)

    def put(self, path: str, body: Any = None) -> Any:
        return self._client.put(f"/api/v1/{path}", body, content_type="application/json", headers=self._headers)

    def all(self, path: str, *, limit: int, **query: Any) -> list[list[dict[str, Any]]]:
        """Read a whole list, page by page."""
        pages, cursor = [], ""
        while True:
            answer = self.get(path, limit=limit, cursor=cursor, **query)
            assert answer.status_code == 200, answer.content
            body = answer.json()
            assert set(body) == {"items", "next"}
            pages.append(body["items"])
            if body["next"] is None:
                return pages
            cursor = body["next"]


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem that the answer holds, after a look at its form."""
    assert answer.status_code == status, (answer.status_code, answer.content[:500])
    assert answer["Content-Type"].split(";")[0] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert all(isinstance(body[name], str) and body[name] for name in ("type", "title", "detail"))
    return body


def paths_of(answer: Any) -> list[str]:
    """Return which fields a refusal of the input names."""
    return [error["path"] for error in problem(answer, 422)["errors"]]
