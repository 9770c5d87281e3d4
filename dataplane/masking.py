"""Parameters of flow runs as they are shown: no secret, and to reviewers nothing unknown.

Prefect keeps a `SecretStr` parameter in clear, so what is shown is judged here: by what the deployment's schema
declares secret, by the parameter's name, by what looks like a credential, and by whose flow it is.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from django.contrib.auth.models import AnonymousUser, User

from console import roles
from dataplane.catalogue import CATALOGUE
from dataplane.credentials import without_credentials
from dataplane.secret_fields import Masking

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
    return _masking(entry.parameters_schema() if entry else {}, hides_undescribed=False).masked(parameters)


def _masking(schema: dict[str, Any], *, hides_undescribed: bool) -> Masking:
    return Masking(schema, hides_undescribed, is_secret_name=_is_secret, shown_text=without_credentials)


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    return bool(_SECRET_WORDS & set(words) or _SECRET_PAIRS & pairs)
