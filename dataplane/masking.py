"""Parameters of flow runs as they are shown: no secret, and to reviewers nothing unknown.

Prefect keeps a `SecretStr` parameter in clear, so what is shown is judged here: by what the deployment's schema
declares secret, by the parameter's name, by what looks like a credential, and by whose flow it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from console import roles
from console.text.names import words_of
from dataplane import registered
from dataplane.catalogue import CATALOGUE
from dataplane.credentials import without_credentials
from dataplane.secret_fields import MASK, Masking

TOO_DEEP = "This is nested too deeply to be shown."
SHORTEST_SECRET = 4  # characters; a shorter one would be found in every word
_SECRET_WORDS = frozenset(
    (
        *("password", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "apikey", "credential"),
        *("credentials", "authorization", "bearer", "cookie", "dsn", "signature"),
    )
)
_SECRET_PAIRS = frozenset(("api key", "access key", "private key", "secret key", "connection string", "auth string"))


#: why nobody sees a value of a run whose deployment has no schema here
UNKNOWN = "It has no deployment with a schema here, so nobody can say which of these values are secret: all are hidden."
#: why nobody sees a value of a foreign run while what is registered is not all understood
MISREAD = (
    "The file of registrations has a fault, so nobody can say which of these values it calls secret: all are hidden "
    "until that is mended."
)


@dataclass(frozen=True)
class Declared:
    """What is said of a flow run's parameters: by its deployment, and by who registered that."""

    flow: str
    deployment: str  # "" when it is gone or the run never had one
    schema: Any  # the deployment's, as somebody else wrote it; `{}` when it is unknown
    kept: Mapping[str, Any] = field(default_factory=dict)  # as they were kept at the start, secrets masked; `{}` if not

    @property
    def is_ours(self) -> bool:
        return (self.flow, self.deployment) in {(entry.flow, entry.deployment) for entry in CATALOGUE.values()}

    @property
    def is_unknown(self) -> bool:
        """Whether nobody can say what is secret."""
        return self.unknown_because != ""

    @property
    def unknown_because(self) -> str:
        """Why nobody can say what is secret, in a sentence; "" where somebody can."""
        if self.is_ours:
            return ""
        if not (isinstance(self.schema, dict) and self.schema):
            return UNKNOWN
        # An entry that is left out may have called something of this flow secret: its own name may be what is wrong.
        return MISREAD if registered.load().faults else ""

    @property
    def registered_secrets(self) -> set[str]:
        return {name for one in registered.load().entries.values() if one.flow == self.flow for name in one.secret}


def shown(parameters: dict[str, Any], declared: Declared, user: User | AnonymousUser) -> Any:
    """Return a flow run's parameters as this person may see them; names stay, values may be masked.

    Of somebody else's flow a reviewer sees only what the schema describes and does not call secret. Nobody sees what
    the registration calls secret, what was masked when it was kept, or anything while nobody can say what is secret.
    """
    hides = not declared.is_ours and (declared.is_unknown or not roles.has_role(user, "operator", "admin"))
    schema = {} if declared.is_unknown else declared.schema
    masked = _masking(schema, hides_undescribed=hides).masked(parameters)
    return _masked_where(_masked_names(masked, declared.registered_secrets), dict(declared.kept))


def of_dataset(parameters: dict[str, Any], dataset: str) -> Any:
    """Return the parameters of one of our refreshes or versions as everybody may see them."""
    entry = CATALOGUE.get(dataset)
    other = registered.load().entries.get(dataset)
    schema = entry.parameters_schema() if entry else {}
    return kept_of(parameters, schema=schema, secret=other.secret if other else ())


def kept_of(
    parameters: dict[str, Any], *, schema: Mapping[str, Any] | None, secret: Iterable[str] = ()
) -> dict[str, Any]:
    """Return parameters as they may be kept: without what their schema, their name or their look calls secret.

    `schema`: None when it is unknown, which masks every value. `secret`: names besides, of whole parameters.
    """
    masked: dict[str, Any] = _masking(schema or {}, hides_undescribed=schema is None).masked(parameters)
    return _masked_names(masked, set(secret))


def secret_texts(parameters: dict[str, Any], declared: Declared, *, are_known: bool = False) -> list[str]:
    """Return the texts among a run's parameters that are secret, longest first, to take them out of what it says.

    Secret is also what was masked when it was kept: its registration may have gone since. While nobody can say what is
    secret, everything is; with `are_known`, what is known to be.
    """
    is_described = isinstance(declared.schema, dict)
    schema = (declared.schema if is_described else {}) if are_known or not declared.is_unknown else None
    masked = _masked_where(kept_of(parameters, schema=schema, secret=declared.registered_secrets), dict(declared.kept))
    return sorted(set(_hidden(parameters, masked)), key=len, reverse=True)


def _masked_names(values: dict[str, Any], secret: set[str]) -> dict[str, Any]:
    return {name: MASK if name in secret and value is not None else value for name, value in values.items()}


def _masked_where(value: Any, kept: Any) -> Any:
    """Return the value with MASK wherever `kept`, an earlier state of it, has one."""
    if kept == MASK:
        return MASK if value is not None else None
    if isinstance(value, dict) and isinstance(kept, dict):
        return {name: _masked_where(one, kept.get(name)) for name, one in value.items()}
    if isinstance(value, list) and isinstance(kept, list):
        return [_masked_where(one, before) for one, before in zip_longest(value, kept[: len(value)])]
    return value


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
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= SHORTEST_SECRET:
        yield str(value)


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
        return without(data, secrets) if isinstance(data, str) else kept
    except RecursionError:
        return TOO_DEEP


def _each_without(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return without(value, secrets)
    if isinstance(value, dict):
        return {without(str(name), secrets): _each_without(one, secrets) for name, one in value.items()}
    if isinstance(value, list):
        return [_each_without(one, secrets) for one in value]
    if isinstance(value, int | float) and str(value) in secrets:
        return MASK
    return value


def _masking(schema: Any, *, hides_undescribed: bool) -> Masking:
    return Masking(schema, hides_undescribed, is_secret_name=_is_secret, shown_text=without_credentials)


def _is_secret(name: str) -> bool:
    words = words_of(name)
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & pairs)
