"""What a verdict model sees of a request, and how its numbers are applied. Pure: no scikit-learn, no database.

The model tells the chance that people approve a request *as it was proposed*. It sees what stood in the request before
anybody decided: tool, risk, words and arguments, all without personal data; never the decision, its reason or its
changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataplane.embedding import Vectors
from dataplane.errors import SourceInvalid
from dataplane.flows.evaluating import groups_of, without_personal, without_personal_text

Numbers = NDArray[np.float64]
SPLITS: Final = ("train", "validation", "test")
OFTEN: Final = 5  # cases that an argument has to be in, to be a column
MOST_COLUMNS: Final = 40  # of numeric arguments


@dataclass(frozen=True)
class SeenProposal:
    """One request as the model sees it."""

    tool: str
    risk: str
    summary: str
    agent_words: str
    arguments: Mapping[str, Any]

    @classmethod
    def without_personal(
        cls, *, tool: str, risk: str, summary: str, agent_words: str, arguments: Mapping[str, Any]
    ) -> SeenProposal:
        """Return an open request as cases are: by the same rules."""
        return cls(
            tool, risk, without_personal_text(summary), without_personal_text(agent_words), without_personal(arguments)
        )

    @property
    def text(self) -> str:
        """What its vector is made of."""
        told = json.dumps(self.arguments, sort_keys=True, ensure_ascii=False, default=str)
        return "\n".join((self.tool, self.summary, self.agent_words, told))[:4000]

    @property
    def numbers(self) -> dict[str, float]:
        """Its numeric arguments by their path, pressed together: a hundred times as much is a few steps further."""
        return {path: _pressed(value) for path, value in _leaves("", self.arguments)}


def _leaves(path: str, value: Any) -> Iterable[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _leaves(f"{path}.{name}" if path else str(name), one)
    elif isinstance(value, bool):
        yield path, float(value)
    elif isinstance(value, int | float | str):
        try:
            number = Decimal(str(value)[:40]) if len(str(value)) <= 40 else None
        except InvalidOperation:
            return
        if number is not None and number.is_finite() and abs(number) < Decimal(10) ** 15:
            yield path, float(number)


def _pressed(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


@dataclass(frozen=True)
class Case:
    """One case of the evaluation set: what was proposed, and whether people approved it as it was."""

    name: str
    run: str
    digest: str  # of the proposal
    split: str
    decided_at: str
    proposed: SeenProposal
    was_approved: bool


def cases_of(bodies: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Case]:
    """Read the published cases: (name, body). Raises SourceInvalid, naming a case that cannot be read."""
    return [_case(name, body) for name, body in bodies]


def _case(name: str, body: Mapping[str, Any]) -> Case:
    try:
        origin = body["provenance"]
        proposed = SeenProposal(body["tool"], body["risk"], body["summary"], body["agent_words"], body["arguments"])
        return Case(
            name=name,
            run=origin["run"],
            digest=origin["proposed_digest"],
            split=body["split"],
            decided_at=origin["decided_at"],
            proposed=proposed,
            was_approved=body["verdict"] == "approve",
        )
    except (KeyError, TypeError) as exc:
        raise SourceInvalid(f"The case {name} of the evaluation set cannot be read: {exc} is missing.") from exc


def faults_of(cases: Sequence[Case]) -> list[tuple[str, str]]:
    """Return what must not be, (case, why): above all a run or a proposal that is in two splits."""
    groups = groups_of([(one.run, one.digest) for one in cases])
    first: dict[str, Case] = {}
    faults = []
    for one in cases:
        other = first.setdefault(groups[one.run], one)
        if one.split not in SPLITS:
            faults.append((one.name, f"is in the split {one.split[:40]!r}, which there is not"))
        elif other.split != one.split:
            faults.append(
                (one.name, f"is in {one.split}, and {other.name} of the same run or proposal in {other.split}")
            )
        if not isinstance(one.proposed.arguments, Mapping):
            faults.append((one.name, "has arguments that are no object"))
    return faults


@dataclass(frozen=True)
class VerdictColumns:
    """The columns of a request's row: its vector, then tools, risks and numeric arguments as they were to train on."""

    tools: Sequence[str]
    risks: Sequence[str]
    numbers: Sequence[tuple[str, float, float]]  # path, mean, spread

    @classmethod
    def of(cls, proposed: Sequence[SeenProposal]) -> VerdictColumns:
        """Return the layout for what is trained on; what comes too seldom has no column."""
        count = Counter(path for one in proposed for path in one.numbers)
        often = [path for path, times in sorted(count.items()) if times >= OFTEN][:MOST_COLUMNS]
        spread = []
        for path in often:
            values = np.array([one.numbers[path] for one in proposed if path in one.numbers])
            spread.append((path, round(float(values.mean()), 9), round(float(values.std()) or 1.0, 9)))
        return cls(
            tools=sorted({one.tool for one in proposed}), risks=sorted({one.risk for one in proposed}), numbers=spread
        )

    def rows(self, proposed: Sequence[SeenProposal], vectors: Vectors) -> Numbers:
        """Return one row for each request. A number that is missing counts as the mean of those that were there."""
        told = [
            [
                *(float(one.tool == tool) for tool in self.tools),
                *(float(one.risk == risk) for risk in self.risks),
                *(_standing(one.numbers.get(path), mean, spread) for path, mean, spread in self.numbers),
            ]
            for one in proposed
        ]
        shape = (len(proposed), len(self.tools) + len(self.risks) + len(self.numbers))
        return np.hstack([np.asarray(vectors, dtype=np.float64), np.array(told, dtype=np.float64).reshape(shape)])


def _standing(value: float | None, mean: float, spread: float) -> float:
    return 0.0 if value is None else max(-5.0, min(5.0, (value - mean) / spread))


@dataclass(frozen=True)
class VerdictNumbers:
    """A trained model as plain numbers: everything that applying it takes."""

    layout: VerdictColumns
    weights: Sequence[float]  # one for each column
    intercept: float
    slope: float  # of the calibration: 1 / (1 + exp(slope * decision + offset))
    offset: float

    def chances(self, proposed: Sequence[SeenProposal], vectors: Vectors) -> Numbers:
        """Return the chance that people approve each request as it is, from 0 to 1."""
        decision = self.layout.rows(proposed, vectors) @ np.asarray(self.weights) + self.intercept
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(self.slope * decision + self.offset, -700, 700))))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> VerdictNumbers:
        """Read what `as_json` wrote. Raises KeyError, TypeError for anything else."""
        kept = body["layout"]
        numbers = [(name, mean, spread) for name, mean, spread in kept["numbers"]]
        layout = VerdictColumns(kept["tools"], kept["risks"], numbers)
        return cls(layout, body["weights"], body["intercept"], body["slope"], body["offset"])


def log_loss(chances: Numbers, was_approved: Sequence[bool]) -> float:
    """Return the mean surprise: 0 for a model that is always sure and right, 0.693 for one that always says half."""
    sure = np.clip(chances, 1e-6, 1 - 1e-6)
    came = np.asarray(was_approved, dtype=np.float64)
    return float(-(came * np.log(sure) + (1 - came) * np.log(1 - sure)).mean())


def scores_of(chances: Numbers, was_approved: Sequence[bool], base_rate: float) -> dict[str, float]:
    """Return the scores on held-out cases, beside those of a model that always tells the base rate."""
    came = np.asarray(was_approved, dtype=np.float64)
    base = np.full(len(came), base_rate)
    return {
        "log_loss": round(log_loss(chances, was_approved), 6),
        "log_loss_of_the_base_rate": round(log_loss(base, was_approved), 6),
        "brier": round(float(((chances - came) ** 2).mean()), 6),
        "brier_of_the_base_rate": round(float(((base - came) ** 2).mean()), 6),
        "roc_auc": round(_auc(chances, came), 6),
        "accuracy": round(float(((chances >= 0.5) == (came == 1)).mean()), 6),
        "accuracy_of_the_base_rate": round(float(((base >= 0.5) == (came == 1)).mean()), 6),
        "base_rate": round(base_rate, 6),
        "held_out_cases": len(came),
    }


def _auc(chances: Numbers, came: Numbers) -> float:
    """Return how often an approved request was told a higher chance than one that was not; a tie is half."""
    above, below = chances[came == 1], chances[came == 0]
    if not len(above) or not len(below):
        return 0.5
    order = above[:, None] - below[None, :]
    return float((order > 0).mean() + 0.5 * (order == 0).mean())


def calibration_of(chances: Numbers, was_approved: Sequence[bool], bins: int = 8) -> list[dict[str, float]]:
    """Return, for chances that lie near one another, what was told, what came, and of how many requests."""
    came = np.asarray(was_approved, dtype=np.float64)
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, max(1, len(order) // 4))) if len(part)]
    return [
        {"told": round(float(chances[part].mean()), 4), "was": round(float(came[part].mean()), 4), "cases": len(part)}
        for part in parts
    ]
