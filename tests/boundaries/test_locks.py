"""No two purposes may share the number of an advisory lock: they would wait for each other, and nobody would see it."""

from __future__ import annotations

import re

from django.apps import apps
from django.db.models import Model

from console.environment import PROJECT
from console.locks import AdvisoryLock

PLANES = ("console", "approvals", "orchestration", "dataplane")
#: a number written where the lock is taken, or kept under a name beside it
_LITERAL = re.compile(r"pg_(?:try_)?advisory_\w+\(\s*\d|7_?310_?0\d\d")


def test_every_numbered_lock_is_named_in_one_place() -> None:
    written = [
        f"{path.relative_to(PROJECT)}:{number}"
        for plane in PLANES
        for path in sorted((PROJECT / plane).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if _LITERAL.search(line) and path != PROJECT / "console" / "locks.py" and path.parent.name != "migrations"
    ]
    assert written == []


def test_what_a_trigger_locks_is_a_lock_that_has_a_name() -> None:
    taken = {
        int(number.replace("_", ""))
        for plane in PLANES
        for path in (PROJECT / plane / "migrations").glob("*.py")
        for number in re.findall(r"pg_(?:try_)?advisory_\w+\((\d[\d_]+)", path.read_text())
    }
    assert taken <= set(AdvisoryLock)


def test_rows_that_others_name_are_held_so_that_they_can_still_be_named() -> None:
    """A new row's foreign key is checked at COMMIT, under the record's chain for which the holder may wait."""
    named = [model for model in apps.get_models() if _is_named(model)]
    names = "|".join(model.__name__ for model in named)
    tables = "|".join(model._meta.db_table for model in named)
    held = re.compile(
        rf"\b(?:{names})\.objects\.select_for_update\((?!\s*no_key=True)|FROM (?:{tables})\b[^\"]*?\bFOR UPDATE"
    )
    found = [
        f"{path.relative_to(PROJECT)}: {match[0]}"
        for plane in PLANES
        for path in sorted((PROJECT / plane).rglob("*.py"))
        for match in held.finditer(path.read_text())
    ]
    assert found == []


def _is_named(model: type[Model]) -> bool:
    return any(getattr(relation.field, "db_constraint", False) for relation in model._meta.related_objects)
