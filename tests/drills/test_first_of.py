"""One was first and all others were told so: can that judgement fail, and does it forgive only a lost answer?"""

from __future__ import annotations

import httpx
import pytest

from drills.checks import first_of
from drills.stage import Lost

LOST = [Lost("503 Service Unavailable")]


def answers(*statuses: int) -> list[httpx.Response]:
    return [httpx.Response(status) for status in statuses]


def test_one_was_first() -> None:
    assert first_of(answers(409, 200, 409), 200, 409, []) == []
    assert first_of(answers(409, 200, 409), 200, 409, LOST) == []


def test_who_was_first_and_lost_the_answer_is_told_as_the_others_are() -> None:
    assert first_of(answers(409, 409, 409), 200, 409, LOST) == []


@pytest.mark.parametrize(
    ("statuses", "lost"),
    [((409, 409, 409), []), ((200, 200, 409), []), ((200, 200, 409), LOST), ((200, 409, 404), LOST)],
)
def test_anything_else_is_seen(statuses: tuple[int, ...], lost: list[Lost]) -> None:
    (said,) = first_of(answers(*statuses), 200, 409, lost)
    assert all(one.why in said for one in lost)
