"""What tokens cost, as SIGNALBOX_PRICES says. No engine here: pages tell costs too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache

from console.environment import environment, read_prices


@dataclass(frozen=True)
class Tokens:
    """Tokens that went in and came out."""

    given: int = 0
    taken: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.given + other.given, self.taken + other.taken)

    def __sub__(self, other: Tokens) -> Tokens:
        return Tokens(self.given - other.given, self.taken - other.taken)

    @property
    def total(self) -> int:
        return self.given + self.taken


def cost_of(used: Mapping[str, Tokens]) -> int | None:
    """Return what the tokens of each model cost together, in millionths; `None` where no price is known for any."""
    costs = [cost for name, tokens in used.items() if (cost := cost_of_one(name, tokens)) is not None]
    return sum(costs) if costs else None


def cost_of_one(model: str, tokens: Tokens) -> int | None:
    """Return what the tokens of one model cost, in millionths of the currency; `None` where its price is not known."""
    prices = _prices(environment().prices)
    without_provider = model.partition(":")[2]  # a name may hold more colons: ollama:llama3.2:3b
    found = prices.get(model) or prices.get(without_provider) or prices.get("*")
    if found is None:
        return None
    exact = tokens.given * found[0] + tokens.taken * found[1]  # a price is for a million tokens
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def words(micros: int | None) -> str:
    """Return a cost for people, "" for none: "1.23 USD", small ones with more digits."""
    if micros is None:
        return ""
    amount = Decimal(micros) / 1_000_000
    digits = Decimal("0.01") if amount >= 1 or not amount else Decimal("0.0001")
    return f"{amount.quantize(digits, ROUND_HALF_UP):,} {environment().currency}"


@lru_cache(maxsize=4)
def _prices(text: str) -> dict[str, tuple[Decimal, Decimal]]:
    return read_prices(text)
