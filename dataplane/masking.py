"""Parameters of flow runs as they are shown: no secret, and to reviewers only those of our own datasets.

Prefect keeps a `SecretStr` parameter in clear, so what is shown is judged here: by the parameter's name, by what looks
like a credential, and by whose flow it is.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from console import roles
from dataplane.catalogue import CATALOGUE

MASK = "•••"
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS = frozenset(
    (
        *("password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "credential"),
        *("credentials", "authorization", "bearer", "cookie", "dsn", "signature"),
    )
)
_SECRET_PAIRS = frozenset(("api key", "access key", "private key", "secret key", "connection string", "auth string"))
_IN_ADDRESS = re.compile(r"(?P<before>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/@:]*:)[^\s/@]+(?=@)")
_LOOKS_SECRET = re.compile(r"(?i)bearer\s+\S+|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bsb_[\w-]{40,}")


def shown(parameters: Any, *, flow: str, user: User | AnonymousUser) -> Any:
    """Return the parameters as this person may see them; names stay, values may be masked."""
    is_ours = flow in {entry.flow for entry in CATALOGUE.values()}
    return _masked(parameters, everything=not is_ours and not roles.has_role(user, "operator", "admin"))


def without_credentials(text: str) -> str:
    """Return a text of somebody else's, such as an error, without the passwords of the addresses in it."""
    return _LOOKS_SECRET.sub(MASK, _IN_ADDRESS.sub(rf"\g<before>{MASK}", text))


def _masked(value: Any, *, everything: bool) -> Any:
    if isinstance(value, dict):
        return {
            name: MASK if _is_secret(name) and item is not None else _masked(item, everything=everything)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_masked(item, everything=everything) for item in value]
    if everything and value is not None:
        return MASK
    return without_credentials(value) if isinstance(value, str) else value


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & pairs)
