"""What is sent to Signalbox and what its answers mean; no network here, so that both clients share it."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import httpx

from signalbox_client.answers import Answer, Approval
from signalbox_client.errors import Refused, Unreachable

Risk = Literal["low", "medium", "high"]
Outcome = Literal["done", "failed", "unknown"]

LONGEST_KEY = 200  # characters
POLL_SECONDS = 50.0  # of one held request: proxies like to cut at 60
POLL_SLACK = 15.0  # that its answer may take beyond it
_AGAIN = frozenset({408, 425, 429})  # of the 4xx
_NEVER = frozenset({501, 505, 510, 511})  # of the 5xx: what answers so will not take it later either
NEVER_SENT = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


@dataclass(frozen=True)
class Call:
    """One request. Each may be sent again: Signalbox knows what it was asked before."""

    method: Literal["GET", "POST"]
    path: str
    body: dict[str, Any] | None = None
    query: Mapping[str, Any] | None = None
    timeout: float = 20.0  # seconds


@dataclass(frozen=True)
class Place:
    """Where Signalbox is and who asks."""

    url: str
    token: str = field(repr=False)

    @classmethod
    def of(cls, url: str | None, token: str | None) -> Place:
        url = url or os.environ.get("SIGNALBOX_URL", "")
        url, token = url.strip(), (token or os.environ.get("SIGNALBOX_TOKEN", "")).strip()
        if not url or not token:
            raise ValueError("Name Signalbox's address and a token, or set SIGNALBOX_URL and SIGNALBOX_TOKEN.")
        if not url.startswith(("http://", "https://")):
            raise ValueError("Signalbox's address begins with http:// or https://.")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError("The token holds characters that no token of Signalbox has.")  # and is not quoted
        return cls(url.rstrip("/").removesuffix("/api/v1") + "/api/v1/", token)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def ask(
    title: str,
    *,
    tool: str,
    arguments: Mapping[str, Any],
    key: str,
    risk: Risk,
    words: str,
    schema: Mapping[str, Any] | None,
    verdicts: Sequence[str] | None,
    audience: Sequence[str] | None,
    due_at: datetime | None,
    deliver_to: Mapping[str, Any] | None,
    reports: bool | None,
) -> Call:
    if due_at is not None and due_at.tzinfo is None:
        raise ValueError("due_at needs its zone: datetime.now(timezone.utc) + ...")
    body: dict[str, Any] = {
        "title": title,
        "tool": tool,
        "arguments": dict(arguments),
        "external_id": key_of(key),
        "risk": risk,
        "agent_words": words,
    }
    may_be_left_out = {
        "arguments_schema": dict(schema) if schema else None,
        "verdicts": list(verdicts) if verdicts else None,
        "audience": list(audience) if audience else None,
        "due_at": due_at.isoformat() if due_at else None,
        "deliver_to": dict(deliver_to) if deliver_to else None,
        "reports_outcome": reports,
    }
    return Call("POST", "approvals", body | {name: one for name, one in may_be_left_out.items() if one is not None})


def answer(approval: Approval | str, wait: float) -> Call:
    """`wait`: seconds that this one request is held."""
    path = f"approvals/{id_of(approval)}/answer"
    return Call("GET", path, query={"wait": round(wait, 3)} if wait > 0 else None, timeout=wait + POLL_SLACK)


def report(approval: Approval | str, status: Outcome, result: Any, error: str) -> Call:
    kept = error[:2000].replace("\x00", "").encode(errors="replace").decode()
    body = {"status": status, "result": result if _can_be_sent(result) else None, "error": kept}
    return Call("POST", f"approvals/{id_of(approval)}/outcome", body)


def without_result(call: Call, told: httpx.Response) -> Call | None:
    """Return the report without its result where Signalbox cannot keep that; an outcome is not lost for its result."""
    body: Any = call.body
    if body["result"] is None or told.status_code not in (413, 422):
        return None
    return replace(call, body={**body, "result": None})


def _can_be_sent(result: Any) -> bool:
    try:
        json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):  # UnicodeEncodeError is a ValueError
        return False
    return True


def withdraw(approval: Approval | str, reason: str) -> Call:
    return Call("POST", f"approvals/{id_of(approval)}/withdraw", {"reason": reason})


def get(approval: Approval | str) -> Call:
    return Call("GET", f"approvals/{id_of(approval)}")


def id_of(approval: Approval | str) -> str:
    found = approval.id if isinstance(approval, Approval) else approval
    if not found or "/" in found:
        raise ValueError(f"{found!r} is no id of an approval.")
    return found


def key_of(key: str) -> str:
    """Return the key as Signalbox takes it: one that is too long is shortened, the same each time."""
    if not key:
        raise ValueError("A key names this one question, so that asking again does not ask twice. It is empty.")
    if len(key) <= LONGEST_KEY:
        return key
    return f"{key[:120]}~{hashlib.sha256(key.encode()).hexdigest()}"


def read_approval(told: httpx.Response) -> Approval:
    return Approval.read(_body(told))


def read_answer(told: httpx.Response) -> Answer | None:
    """Return the answer, None while nobody has decided."""
    body = _body(told)
    return None if told.status_code == 202 else Answer.read(body)


def is_to_be_sent_again(told: httpx.Response) -> bool:
    """Return whether it may be taken later: nobody of Signalbox said no."""
    return told.status_code in _AGAIN or (told.status_code >= 500 and told.status_code not in _NEVER)


def pause(attempt: int, told: httpx.Response | None) -> float:
    """Return the seconds until the next attempt, the first being 1: as Signalbox says, else longer each time."""
    if told is not None and (after := told.headers.get("Retry-After", "")).isdigit():
        return float(min(int(after), 60)) + random.uniform(0, 0.5)
    return float(min(0.25 * 2 ** min(attempt, 10), 15.0)) * random.uniform(0.5, 1.0)


def rest(held: float, took: float) -> float:
    """Return the seconds to wait before the next look: some where a proxy or server does not hold requests."""
    return 0.0 if took >= held / 2 else min(1.0, held)


def _body(told: httpx.Response) -> dict[str, Any]:
    if told.is_success:
        try:
            body = told.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Unreachable("Something else than Signalbox answered: it is no JSON. Is the address right?")
        return body
    raise Refused(told.status_code, problem_in(told) or {"title": told.reason_phrase})


def problem_in(told: httpx.Response) -> dict[str, Any]:
    """Return the RFC 9457 body, empty where something else answers than Signalbox."""
    try:
        problem = told.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def as_json(value: Any) -> Any:
    """Return the value if JSON can hold it unchanged, else None: a report is not lost for its result."""
    try:
        return value if json.loads(json.dumps(value, allow_nan=False)) == value else None
    except (TypeError, ValueError, RecursionError):
        return None
