"""What models were used, in rows: by turn, run, agent and day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Coalesce

from orchestration import prices
from orchestration.models import ModelUse
from orchestration.prices import Tokens

MOST_DAYS: Final = 92
ROWS_AT_MOST: Final = 1000

_NOTE = """
INSERT INTO orchestration_modeluse (run_id, turn, model, agent, day, input_tokens, output_tokens, cost_micros)
SELECT %s, %s, %s, r.agent, (signalbox_now() AT TIME ZONE 'UTC')::date, %s, %s, %s
FROM orchestration_run r WHERE r.id = %s
ON CONFLICT (run_id, turn, model, day) DO UPDATE SET
    input_tokens = orchestration_modeluse.input_tokens + excluded.input_tokens,
    output_tokens = orchestration_modeluse.output_tokens + excluded.output_tokens,
    cost_micros = CASE WHEN orchestration_modeluse.cost_micros IS NULL THEN excluded.cost_micros
                       ELSE orchestration_modeluse.cost_micros + coalesce(excluded.cost_micros, 0) END
"""


def note(run_id: str, turn: int, used: Mapping[str, Tokens]) -> None:
    """Add what an attempt has used, once for each attempt. Part of the transaction that writes the run's usage."""
    with connection.cursor() as cursor:
        for model, tokens in sorted(used.items()):
            cost = prices.cost_of_one(model, tokens)
            cursor.execute(_NOTE, [run_id, turn, model, tokens.given, tokens.taken, cost, run_id])


def used_today(agent: str) -> int:
    """Return how many tokens the models of the agent's runs have used since midnight UTC, as far as turns have told."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint FROM orchestration_modeluse"
            " WHERE agent = %s AND day = (signalbox_now() AT TIME ZONE 'UTC')::date",
            [agent],
        )
        tokens: int = cursor.fetchone()[0]
    return tokens


@dataclass(frozen=True)
class DayOfAgent:
    """What the runs of one agent have used of one model on one day."""

    day: date
    agent: str
    model: str
    tokens: Tokens
    cost_micros: int | None

    @property
    def cost(self) -> str:
        return prices.words(self.cost_micros)


@dataclass(frozen=True)
class UsedDays:
    """What was used on the last days: the newest ROWS_AT_MOST rows, and the sums of all there are."""

    rows: list[DayOfAgent]
    tokens: Tokens
    cost_micros: int | None
    is_cut: bool  # there are more rows than these

    @property
    def cost(self) -> str:
        return prices.words(self.cost_micros)


_BY_DAY = """
SELECT day, agent, model, sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cost_micros)::bigint,
       count(*) OVER (), sum(sum(input_tokens)) OVER ()::bigint, sum(sum(output_tokens)) OVER ()::bigint,
       sum(sum(cost_micros)) OVER ()::bigint
FROM orchestration_modeluse WHERE day > (signalbox_now() AT TIME ZONE 'UTC')::date - %s
GROUP BY day, agent, model ORDER BY day DESC, agent, model LIMIT %s
"""


def by_day(days: int) -> UsedDays:
    """Return what was used on each of the last days, the newest first; at most MOST_DAYS of them. One query."""
    with connection.cursor() as cursor:
        cursor.execute(_BY_DAY, [max(1, min(days, MOST_DAYS)), ROWS_AT_MOST])
        found = cursor.fetchall()
    rows = [
        DayOfAgent(day, agent, model, Tokens(given, taken), cost) for day, agent, model, given, taken, cost, *_ in found
    ]
    many, given, taken, cost = found[0][6:] if found else (0, 0, 0, None)
    return UsedDays(rows, Tokens(given, taken), cost, is_cut=many > len(rows))


@dataclass(frozen=True)
class TurnUse:
    """What one turn of a run has used of one model."""

    turn: int
    model: str
    tokens: Tokens
    cost_micros: int | None

    @property
    def cost(self) -> str:
        return prices.words(self.cost_micros)


def by_turn(run_id: str) -> list[TurnUse]:
    """Return what each turn of a run has used, in order. One query."""
    rows = ModelUse.objects.filter(run_id=run_id).values("turn", "model").order_by("turn", "model")
    rows = rows.annotate(
        given=Coalesce(Sum("input_tokens"), 0), taken=Coalesce(Sum("output_tokens"), 0), cost=Sum("cost_micros")
    )
    return [TurnUse(row["turn"], row["model"], Tokens(row["given"], row["taken"]), row["cost"]) for row in rows]
