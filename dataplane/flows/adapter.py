"""A linear retrieval adapter: a matrix that turns a question's vector towards the passages that answer such questions.

Pure numpy. Ridge regression towards the identity: with nothing to learn from, a question stays where it was. It is
judged on questions held out: the questions are dealt into folds, and those of each are turned by a matrix that was
learned from the others, its strength chosen there too. So every question counts, and none was seen by what answers it.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dataplane.contents.passages import passage_name
from dataplane.embedding import Vectors, unit
from dataplane.flows.evaluating import groups_of
from dataplane.flows.verdicts import Numbers
from dataplane.questions import Question
from dataplane.search_figures import FIRST, SearchFigures, figures_of

STRENGTHS: Final = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the pull towards the identity
FOLDS: Final = 5
LEAST: Final = 30  # questions
CHANCE: Final = 0.05  # a gain that comes by chance more often than this is none


@dataclass(frozen=True)
class Searched:
    """What is searched: the name of each passage, and its vector of length 1 in the row of the same place."""

    names: Sequence[str]
    vectors: Vectors

    @classmethod
    def of(cls, passages: Sequence[tuple[str, str]], vectors: Vectors) -> Searched:
        """`passages`: (document, heading) of each."""
        return cls([passage_name(document, heading) for document, heading in passages], vectors)

    def answers(self, asked: Numbers) -> list[list[str]]:
        """Return for each vector the names of the nearest passages, by an exact search, nearest first."""
        near = unit(np.asarray(asked, dtype=np.float32)) @ self.vectors.T
        places = np.argsort(-near, axis=1, kind="stable")[:, :FIRST]
        return [[self.names[place] for place in row] for row in places]

    def targets(self, questions: Sequence[Question]) -> Numbers:
        """Return for each question the middle of the passages that answer it; zeros where none is there."""
        found = [[place for place, name in enumerate(self.names) if name in one.passages] for one in questions]
        nothing = np.zeros(self.vectors.shape[1])
        return np.array([self.vectors[places].mean(axis=0) if places else nothing for places in found])


@dataclass(frozen=True)
class Learned:
    """An adapter of all questions, and how well its kind answers questions that it has not seen."""

    matrix: Numbers  # square; a question's vector, as a row, times it
    strength: float
    with_it: SearchFigures
    without: SearchFigures

    @property
    def gained(self) -> int:
        """Return how many questions find their passage with it alone."""
        return len(_asks(self.without) - _asks(self.with_it))

    @property
    def lost(self) -> int:
        """Return how many questions find their passage without it alone."""
        return len(_asks(self.with_it) - _asks(self.without))


def _asks(figures: SearchFigures) -> set[str]:
    return {str(one["ask"]) for one in figures.missed}


def usable(questions: Sequence[Question], searched: Searched) -> Numbers:
    """Return the places of the questions that there is an answer to among the passages."""
    names = set(searched.names)
    return np.array([place for place, one in enumerate(questions) if names & set(one.passages)], dtype=np.int64)


def learn(questions: Sequence[Question], asked: Vectors, searched: Searched) -> Learned:
    """Learn from the questions that have an answer, and judge by each fold of them in turn.

    `asked`: a vector for each question. Questions without an answer count as missed, as everywhere.
    """
    vectors = np.asarray(asked, dtype=np.float64)
    wanted = searched.targets(questions)
    fold, among = folds(questions), usable(questions, searched)
    turned = vectors.copy()
    for one in range(FOLDS):
        here, rest = among[fold[among] == one], among[fold[among] != one]
        if len(here):
            strength = chosen_strength(questions, vectors, wanted, searched, fold, rest)
            turned[here] = vectors[here] @ matrix(vectors[rest], wanted[rest], strength)
    strength = chosen_strength(questions, vectors, wanted, searched, fold, among)
    return Learned(
        matrix=matrix(vectors[among], wanted[among], strength),
        strength=strength,
        with_it=figures_of("adapter", questions, searched.answers(turned)),
        without=figures_of("exact", questions, searched.answers(vectors)),
    )


def folds(questions: Sequence[Question]) -> Numbers:
    """Return the fold of each question, 0 to FOLDS - 1. Questions with a passage in common are in one.

    A fold goes by what is answered: questions that are added or moved leave the others where they are.
    """
    group = groups_of([(str(number), name) for number, one in enumerate(questions) for name in one.passages])
    first: dict[str, str] = {}
    for number, one in enumerate(questions):
        top = group[str(number)]
        first[top] = min(first.get(top, one.passages[0]), *one.passages)
    digests = [hashlib.sha256(first[group[str(number)]].encode()).digest() for number in range(len(questions))]
    return np.array([digest[0] % FOLDS for digest in digests])


def matrix(asked: Numbers, wanted: Numbers, strength: float) -> Numbers:
    """Return the matrix A that makes asked @ A lie near what is wanted, and A itself near the identity."""
    size = asked.shape[1]
    pull = asked.T @ asked + strength * np.eye(size)
    return np.asarray(np.eye(size) + np.linalg.solve(pull, asked.T @ (wanted - asked)))


def chosen_strength(
    questions: Sequence[Question], asked: Numbers, wanted: Numbers, searched: Searched, fold: Numbers, among: Numbers
) -> float:
    """Return the strength that does best on each fold of the questions `among` (their places), learned from the rest.

    Of equals the one that changes less.
    """
    best, best_rank = STRENGTHS[-1], -1.0
    for strength in reversed(STRENGTHS):
        turned = asked.copy()
        for one in range(FOLDS):
            here, rest = among[fold[among] == one], among[fold[among] != one]
            if len(here):
                turned[here] = asked[here] @ matrix(asked[rest], wanted[rest], strength)
        chosen = [questions[place] for place in among]
        rank = figures_of("adapter", chosen, searched.answers(turned[among])).mean_reciprocal_rank
        if rank > best_rank + 1e-9:
            best, best_rank = strength, rank
    return best


def why_not(found: Learned) -> str:
    """Return in a sentence why the adapter is not worth publishing; "" when it finds more, and not by chance."""
    gained, lost = found.gained, found.lost
    told = (
        f"With the adapter {found.with_it.found} of {found.with_it.questions} questions that it had not seen find "
        f"their passage among the first {FIRST}, without it {found.without.found} (mean reciprocal rank "
        f"{found.with_it.mean_reciprocal_rank:.3f} and {found.without.mean_reciprocal_rank:.3f})."
    )
    if gained <= lost:
        return f"{told} It does not help, so it is not published."
    if by_chance(gained, lost) > CHANCE:
        return f"{told} So small a gain comes by chance as well, so it is not published."
    return ""


def by_chance(gained: int, lost: int) -> float:
    """Return how likely chance alone gives so many gains among those that changed: the sign test, one-sided."""
    changed = gained + lost
    ways = sum(math.comb(changed, more) for more in range(gained, changed + 1))
    return float(ways / 2**changed)


def kept(adapter: Numbers) -> bytes:
    """Return the matrix as a file of numpy's, which `numpy.load` reads without pickle."""
    file = io.BytesIO()
    np.save(file, adapter.astype(np.float32), allow_pickle=False)
    return file.getvalue()
