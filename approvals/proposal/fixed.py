"""Arguments that a change may not touch, because they say which request it is: the order, the recipient, the currency.

Whoever asks marks them in the schema of the arguments, which is kept with the request: so the page, the check of a
change and an old request agree. `x-signalbox-fixed` is a list of argument names beside `properties`, or `true` in an
argument's own schema. An argument that holds others is fixed as a whole. A rule of the policy can let them be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

KEYWORD: Final = "x-signalbox-fixed"


def mark(schema: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the schema with the names marked; without any, as it is."""
    kept = list(names)
    return {**schema, KEYWORD: kept} if kept else dict(schema)


def fixed_in(schema: Any) -> list[str]:
    """Return the names of the arguments that the schema marks, in its order. What is no mark is passed over."""
    if not isinstance(schema, dict):
        return []
    listed = schema.get(KEYWORD)
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    properties = schema.get("properties")
    if isinstance(properties, dict):
        names += [name for name, one in properties.items() if isinstance(one, dict) and one.get(KEYWORD) is True]
    return list(dict.fromkeys(names))


def faults_of(schema: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a schema's marks as (path, sentence): a mark that is misread would protect nothing."""
    if not isinstance(schema, dict):
        return []
    faults = []
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    listed = schema.get(KEYWORD, [])
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        faults.append((KEYWORD, "It is a list of the names of arguments that a change may not touch."))
    else:
        unknown = [name for name in listed if known and name not in known]
        faults += [(KEYWORD, f"There is no argument “{name}” among the properties.") for name in unknown]
    for name, one in known.items():
        if isinstance(one, dict) and not isinstance(one.get(KEYWORD, False), bool):
            faults.append((f"properties.{name}.{KEYWORD}", "Beside a single argument it is true or false."))
    return faults
