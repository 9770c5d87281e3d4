"""How we show Prefect who we are, and its refusals in words: the same for the console, the stack and the flows."""

from __future__ import annotations

from base64 import b64encode

from console.environment import environment, is_embedded


def authorization(auth_string: str, api_key: str) -> dict[str, str]:
    """Return the header by which Prefect knows a client, as its own client would send it; `{}` without either."""
    if auth_string:
        return {"Authorization": f"Basic {b64encode(auth_string.encode()).decode()}"}
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def prefect_token() -> tuple[str, str]:
    """Return the auth string and the API key for Prefect, "" each where it wants none, as the stack's own does."""
    given = environment()
    return ("", "") if is_embedded("prefect") else (given.prefect_auth_string, given.prefect_api_key)


def locked_out(status: int, had_credentials: bool) -> str:
    """Return in words what an HTTP status says about our credentials, "" when it is about something else."""
    if status not in (401, 403):
        return ""
    if had_credentials:
        return f"It answers {status}: it does not accept what PREFECT_API_AUTH_STRING or PREFECT_API_KEY says."
    return f"It answers {status}: it wants PREFECT_API_AUTH_STRING (user:password) or, in the cloud, PREFECT_API_KEY."
