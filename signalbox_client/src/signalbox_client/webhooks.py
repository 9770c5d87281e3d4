"""Answers that come by webhook, signed as Standard Webhooks say (standardwebhooks.com, specification 1.0)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

from signalbox_client.answers import Answer
from signalbox_client.errors import BadSignature

OLDEST_SECONDS = 300
SHORTEST_KEY = 16  # bytes; anybody can sign with an empty one


def read_webhook(headers: Mapping[str, str], body: bytes | str, *secrets: str) -> Answer:
    """Return the answer in a webhook that Signalbox has signed with one of the secrets. Raises BadSignature.

    `secrets`: as `manage.py webhook_secret NAME --new` prints them; give both while one is replaced. An empty one is
    passed over. An answer may come twice: what is done for it should be done once for each `approval_id`, which
    has to be one that you asked for. Keep that it was done once it is done: an answer that you refuse comes again.
    """
    found = {name.lower(): value for name, value in headers.items()}
    raw = body.encode() if isinstance(body, str) else body
    try:
        message_id, at, signatures = (found[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        age = time.time() - int(at[:20])
    except (KeyError, ValueError) as exc:
        raise BadSignature("It carries no signature that can be read.") from exc
    keys = [_key(secret) for secret in secrets if secret]
    if not keys:
        raise BadSignature("No secret was given to check it with.")
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise BadSignature("A secret is no secret of Signalbox: it is too short.")
    if abs(age) > OLDEST_SECONDS:
        raise BadSignature("It was signed more than five minutes ago, or this machine's clock is wrong.")
    signed = f"{message_id}.{at}.".encode() + raw
    wanted = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    given = [_decoded(one.partition(",")[2]) for one in signatures.split() if one.startswith("v1,")]
    if not any(hmac.compare_digest(one, other) for one in wanted for other in given):
        raise BadSignature("The signature is not Signalbox's, or the body was changed on its way.")
    return Answer.read(json.loads(raw))


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except ValueError:
        return b""
