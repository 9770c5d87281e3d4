"""A reviewer's browser without scripts: a session, pages, and forms sent back as they were drawn."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx

from drills.stage import Stage
from drills.waiting import until

_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)"')
Fields = dict[str, str]


class Browser:
    """One person, signed in by password."""

    def __init__(self, stage: Stage, username: str) -> None:
        self._stage = stage
        self._username = username
        self._client = httpx.AsyncClient(base_url=stage.stack.web_url, timeout=30)

    async def sign_in(self) -> None:
        """Take the way through the sign-in page."""
        password = next(
            one["password"] for one in self._stage.stack.demo_accounts() if one["username"] == self._username
        )
        page = await self._page("/accounts/login/")
        fields = {**hidden_of(page.text), "login": self._username, "password": password}
        answer = await self._sent("/accounts/login/", fields)
        if answer.status_code != 302:
            raise RuntimeError(f"{self._username} could not sign in: {answer.status_code}")

    async def decision_form(self, approval_id: str) -> Fields:
        """Open the page of a request; return what its decision form holds."""
        answer = await self._page(f"/approvals/{approval_id}/")
        form = re.search(rf'<form class="decide" id="decide-{approval_id}".*?</form>', answer.text, re.DOTALL)
        if form is None:
            raise RuntimeError(f"the page of {approval_id} has no decision form ({answer.status_code})")
        return hidden_of(form.group(0))

    async def send(self, approval_id: str, fields: Fields, verdict: str = "approve") -> int:
        """Press a button of the form, again where there is no answer; return the answer's status, 302 when taken."""
        history = self._stage.history
        operation = history.operation(self._username, f"form of {approval_id}")
        sent: dict[str, Any] = {**fields, "verdict": verdict, "note": ""}
        answer = await self._sent(f"/approvals/{approval_id}/decision", sent)
        taken = answer.status_code == 302
        history.note(
            "ok" if taken else "refused",
            self._username,
            f"form of {approval_id}",
            operation=operation,
            status=answer.status_code,
        )
        return answer.status_code

    async def _page(self, path: str) -> httpx.Response:
        async def look() -> httpx.Response | None:
            answer = await self._client.get(path)
            return None if answer.is_server_error else answer

        return await until(look, f"GET {path}")

    async def _sent(self, path: str, fields: dict[str, Any]) -> httpx.Response:
        async def send() -> httpx.Response | None:
            answer = await self._client.post(path, data=fields)
            return None if answer.is_server_error else answer

        return await until(send, f"an answer to the form {path}")

    async def close(self) -> None:
        await self._client.aclose()


def hidden_of(text: str) -> Fields:
    """Return the hidden fields of HTML, the last of a name."""
    found = _HIDDEN.findall(text)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text)
    fields = {name: html.unescape(value) for name, value in found}
    return fields | ({"csrfmiddlewaretoken": token.group(1)} if token else {})
