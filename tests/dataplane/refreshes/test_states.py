"""What may follow what, in both languages, and that nothing else moves a refresh."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from console.environment import PROJECT
from dataplane.models import Dataset, Refresh
from dataplane.plain_sql import connect
from dataplane.refreshes import states
from dataplane.refreshes.claim import fail
from dataplane.refreshes.states import Status

pytestmark = pytest.mark.usefixtures("database_url")

LIFE = [
    "scheduled > scheduled running published unchanged finished failed cancelled",
    "running > scheduled running published unchanged finished failed cancelled",
    "failed > scheduled running published unchanged finished failed",
    "finished > published unchanged failed",
    "published >",
    "unchanged >",
    "cancelled >",
]


def by_django(refresh_id: str, to: Status) -> bool:
    return states.move(Refresh.objects.filter(pk=refresh_id), to, error="moved") == 1


def by_sql(refresh_id: str, to: Status) -> bool:
    with connect() as connection:
        return states.move_in_sql(connection, refresh_id, to, error="moved")


def pairs() -> Iterator[tuple[Status, Status, bool]]:
    for line in LIFE:
        earlier, _, following = line.partition(" >")
        for later in Status:
            yield Status(earlier), later, later.value in following.split()


@pytest.mark.parametrize("move", [by_django, by_sql])
def test_every_pair_of_states_is_allowed_or_refused_without_a_trace(move: Callable[[str, Status], bool]) -> None:
    Dataset.objects.create(name="handbook", title="Handbook", fresh_for=timedelta(days=1))
    wrong, walked = [], 0
    for earlier, later, is_allowed in pairs():
        walked += 1
        row = Refresh.objects.create(
            id=f"rfr_{walked}", dataset_id="handbook", key=str(walked), parameters={}, status=earlier, error="before"
        )
        moved = move(row.pk, later)
        row.refresh_from_db()
        expected = (later, "moved") if is_allowed else (earlier, "before")
        if moved is not is_allowed or (row.status, row.error) != expected:
            wrong.append(f"{earlier} > {later}: moved {moved}, now {row.status} {row.error}")
    assert walked == len(Status) ** 2 and wrong == []


def test_a_flow_that_fails_says_so_as_it_can_be_kept_and_only_of_what_has_not_ended_well() -> None:
    Dataset.objects.create(name="handbook", title="Handbook", fresh_for=timedelta(days=1))
    for status in Status:
        Refresh.objects.create(id=f"rfr_{status}", dataset_id="handbook", key=status, parameters={}, status=status)
        if status not in states.DONE:  # which have a version
            fail(f"rfr_{status}", "bro\x00ken")
    failed = Refresh.objects.filter(error="bro␀ken", status="failed").values_list("key", flat=True)
    assert set(failed) == {*states.OPEN, Status.FAILED}
    Refresh.objects.update(send_error="re\x00fused")
    assert set(Refresh.objects.values_list("send_error", flat=True)) == {"re␀fused"}


def test_the_columns_choices_are_the_states() -> None:
    assert [value for value, _ in Refresh._meta.get_field("status").choices or ()] == [*Status]
    assert {earlier for earlier, _, _ in pairs()} == set(states.FOLLOWING) == set(Status)


def test_nothing_else_moves_a_refresh() -> None:
    others = [
        path for path in (PROJECT / "dataplane").rglob("*.py") if path.name not in ("states.py", "0001_initial.py")
    ]
    assert len(others) > 20
    movers = [
        f"{path.name}:{getattr(node, 'lineno', 0)}"
        for path in others
        for node in ast.walk(ast.parse(path.read_text()))
        if _moves(node)
    ]
    assert movers == []


def _moves(node: ast.AST) -> bool:
    """Return whether the code sets a status: as an attribute, in an update, among saved fields, or in SQL."""
    match node:
        case ast.Attribute(attr="status", ctx=ast.Store()):
            return True
        case ast.Call(func=ast.Attribute(attr="update" | "update_or_create" | "bulk_update"), keywords=keywords):
            return any(keyword.arg == "status" for keyword in keywords)
        case ast.keyword(arg="update_fields", value=value):
            return "'status'" in ast.dump(value)
        case ast.Constant(value=str() as text):
            return "UPDATE dataplane_refresh" in text and "status =" in text
    return False
