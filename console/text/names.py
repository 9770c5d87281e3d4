"""The names of fields, as programs write them."""

from __future__ import annotations

import re

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters, without its digits: `dbPassword2` is `db` and `password`.

    Words are told apart by capitals, digits and whatever else is no letter. Letters beyond a to z are left out.
    """
    return [word.lower() for word in _WORDS.findall(name)]
