"""Parameters of flow runs as they are shown: no secret, and to reviewers nothing unknown.

Prefect keeps a `SecretStr` parameter in clear, so what is shown is judged here: by what the deployment's schema
declares secret, by the parameter's name, by what looks like a credential, and by whose flow it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from console import roles
from dataplane import registered
from dataplane.catalogue import CATALOGUE
from dataplane.credentials import without_credentials
from dataplane.secret_fields import MASK, Masking

TOO_DEEP = "This is nested too deeply to be shown."
SHORTEST_SECRET = 4  # characters; a shorter one would be found in every word
_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS = frozenset(
    (
        *("password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "credential"),
        *("credentials", "authorization", "bearer", "cookie", "dsn", "signature"),
    )
)
_SECRET_PAIRS = frozenset(("api key", "access key", "private key", "secret key", "connection string", "auth string"))


def shown(parameters: dict[str, Any], *, flow: str, schema: dict[str, Any], user: User | AnonymousUser) -> Any:
    """Return a flow run's parameters as this person may see them; names stay, values may be masked.

    `schema`: of the run's deployment, `{}` when it is unknown. Of somebody else's flow a reviewer sees only what the
    schema describes and does not call secret.
    """
    is_ours = flow in {entry.flow for entry in CATALOGUE.values()}
    hides = not is_ours and not roles.has_role(user, "operator", "admin")
    return _masking(schema, hides_undescribed=hides).masked(parameters)


def of_dataset(parameters: dict[str, Any], dataset: str) -> Any:
    """Return the parameters of one of our refreshes or versions as everybody may see them."""
    entry = CATALOGUE.get(dataset)
    other = registered.load().entries.get(dataset)
    schema = entry.parameters_schema() if entry else {}
    return kept_of(parameters, schema=schema, secret=other.secret if other else ())


def kept_of(parameters: dict[str, Any], *, schema: Mapping[str, Any], secret: Iterable[str] = ()) -> dict[str, Any]:
    """Return parameters as they may be kept: without what their schema, their name or their look calls secret.

    `secret`: names besides, of whole parameters.
    """
    masked: dict[str, Any] = _masking(dict(schema), hides_undescribed=False).masked(parameters)
    return {name: MASK if name in set(secret) and value is not None else value for name, value in masked.items()}


def secret_texts(parameters: dict[str, Any], *, flow: str, schema: Mapping[str, Any]) -> list[str]:
    """Return the texts among a run's parameters that are secret, longest first, to take them out of what it says."""
    named = {name for one in registered.load().entries.values() if one.flow == flow for name in one.secret}
    masked = kept_of(parameters, schema=schema, secret=named)
    return sorted(set(_hidden(parameters, masked)), key=len, reverse=True)


def _hidden(value: Any, masked: Any) -> Iterator[str]:
    if masked == MASK and value != MASK:
        yield from _texts(value)
    elif isinstance(value, dict) and isinstance(masked, dict):
        for name, item in value.items():
            yield from _hidden(item, masked.get(name))
    elif isinstance(value, list) and isinstance(masked, list):
        for item, shown in zip(value, masked, strict=False):
            yield from _hidden(item, shown)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str) and len(value) >= SHORTEST_SECRET:
        yield value


def without(text: str, secrets: Iterable[str]) -> str:
    """Return a text of a run's without its secrets, and without what looks like a credential."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return without_credentials(text)


def data_without(data: Any, secrets: Sequence[str]) -> Any:
    """Return an artifact's data without a run's secrets, wherever they stand in it; `data`: JSON, or a text of it.

    In a text of JSON a secret may be written with escapes, so it is looked for in what the text says.
    """
    try:
        value = json.loads(data) if isinstance(data, str) else data
    except (ValueError, RecursionError):
        return without(data, secrets)
    try:
        kept = _each_without(value, secrets)
        if isinstance(data, str) and isinstance(value, dict | list | str):
            return json.dumps(kept, ensure_ascii=False)
        return data if isinstance(data, str) else kept
    except RecursionError:
        return TOO_DEEP


def _each_without(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return without(value, secrets)
    if isinstance(value, dict):
        return {without(str(name), secrets): _each_without(one, secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [_each_without(one, secrets) for one in value]
    return value


def _masking(schema: dict[str, Any], *, hides_undescribed: bool) -> Masking:
    return Masking(schema, hides_undescribed, is_secret_name=_is_secret, shown_text=without_credentials)


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & pairs)
