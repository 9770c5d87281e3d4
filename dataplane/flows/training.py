"""Training a verdict model, and keeping it in a file without pickle. The only place that knows scikit-learn and skops.

Both are imported when they are used: the extra `training` may be missing, and no other process has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dataplane.embedding import Vectors
from dataplane.errors import ModelRefused, TrainingMissing
from dataplane.flows.evaluating import groups_of
from dataplane.flows.verdicts import Case, Numbers, VerdictColumns, VerdictNumbers, log_loss

STRENGTHS: Final = (0.03, 0.1, 0.3, 1.0, 3.0)  # of the fit, weakest first; chosen on the validation split
FOLDS: Final = 5
LEAST_TO_TRAIN: Final = 30  # cases
LEAST_OF_EACH: Final = 6  # of those, approved as proposed, and not; in runs that share nothing
LEAST_HELD_OUT: Final = 10
#: Types in a model's file beyond those that skops itself trusts. Nothing else is ever loaded.
TRUSTED: Final = frozenset({"sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration"})


@dataclass(frozen=True)
class TooLittle:
    """There is not enough to train on; the sentence says of what."""

    sentence: str


@dataclass(frozen=True)
class Fitted:
    """A trained model, as plain numbers and as the file that holds the whole of it."""

    numbers: VerdictNumbers
    file: bytes
    library: str  # name and version of what trained it
    strength: float


def too_little(cases: Sequence[Case]) -> TooLittle | None:
    """Return what is missing to train and to judge, None when nothing is."""
    train = [one for one in cases if one.split == "train"]
    test = [one for one in cases if one.split == "test"]
    groups = _groups(train)
    approved = {group for group, one in zip(groups, train, strict=True) if one.was_approved}
    others = {group for group, one in zip(groups, train, strict=True) if not one.was_approved}
    if len(train) < LEAST_TO_TRAIN:
        return TooLittle(
            f"There are {len(train)} decided requests to train on; {LEAST_TO_TRAIN} are the least. "
            "Release more tools in the evaluation set, or wait for more decisions."
        )
    if min(len(approved), len(others)) < LEAST_OF_EACH:
        return TooLittle(
            f"People approved as proposed in {len(approved)} groups of runs and did not in {len(others)}; "
            f"{LEAST_OF_EACH} of each are the least to learn the difference from."
        )
    if len(test) < LEAST_HELD_OUT or len({one.was_approved for one in test}) < 2:
        return TooLittle(
            f"There are {len(test)} held-out cases to judge a model by, of both kinds together; "
            f"{LEAST_HELD_OUT} are the least, and both kinds must be among them."
        )
    return None


def _groups(cases: Sequence[Case]) -> list[str]:
    groups = groups_of([(one.run, one.digest) for one in cases])
    return [groups[one.run] for one in cases]


def train(cases: Sequence[Case], vectors: Vectors) -> Fitted:
    """Fit on the split `train` alone, choose the strength on `validation`; `test` is not looked at.

    `vectors`: one for each case. The same cases give the same numbers. Raises TrainingMissing.
    """
    learn, choose = _part(cases, vectors, "train"), _part(cases, vectors, "validation")
    layout = VerdictColumns.of([one.proposed for one in learn.cases])
    rows, groups = layout.rows([one.proposed for one in learn.cases], learn.vectors), _groups(learn.cases)
    tried = [(strength, _fit(rows, learn.came, groups, strength)) for strength in STRENGTHS]
    losses = [_loss(_numbers(model, layout), choose) for _, model in tried]
    strength, model = tried[int(np.argmin(losses))]
    return Fitted(_numbers(model, layout), kept(model), library(), strength)


@dataclass(frozen=True)
class _Part:
    cases: Sequence[Case]
    vectors: Vectors
    came: Sequence[bool]


def _part(cases: Sequence[Case], vectors: Vectors, split: str) -> _Part:
    rows = [number for number, one in enumerate(cases) if one.split == split]
    chosen = [cases[number] for number in rows]
    return _Part(chosen, vectors[rows], [one.was_approved for one in chosen])


def _loss(numbers: VerdictNumbers, part: _Part) -> float:
    if not part.cases:
        return 0.0
    return log_loss(numbers.chances([one.proposed for one in part.cases], part.vectors), part.came)


def _fit(
    rows: Numbers, came: Sequence[bool], groups: Sequence[str], strength: float
) -> Any:  # Any: the library has no types
    """Fit a logistic regression on all rows, calibrated on folds that share no run."""
    try:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError as exc:
        raise TrainingMissing("scikit-learn") from exc
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(rows, came, groups)
    usable = [(fit, rest) for fit, rest in folds if len(rest)]
    model = CalibratedClassifierCV(
        LogisticRegression(C=strength, max_iter=2000), method="sigmoid", ensemble=False, cv=usable
    )
    return model.fit(rows, came)


def _numbers(model: Any, layout: VerdictColumns) -> VerdictNumbers:
    (calibrated,) = model.calibrated_classifiers_
    (sigmoid,) = calibrated.calibrators
    line = calibrated.estimator
    return VerdictNumbers(
        layout=layout,
        weights=[round(float(weight), 9) for weight in line.coef_[0]],
        intercept=round(float(line.intercept_[0]), 9),
        slope=round(float(sigmoid.a_), 9),
        offset=round(float(sigmoid.b_), 9),
    )


def library() -> str:
    """Return what trains, e.g. "scikit-learn 1.9.1". Raises TrainingMissing."""
    try:
        import sklearn
    except ImportError as exc:
        raise TrainingMissing("scikit-learn") from exc
    return f"scikit-learn {sklearn.__version__}"


def kept(model: Any) -> bytes:
    """Return the model as a file of skops: a zip of JSON and arrays, no pickle in it."""
    try:
        from skops import io
    except ImportError as exc:
        raise TrainingMissing("skops") from exc
    file: bytes = io.dumps(model)
    return file


def loaded(file: bytes) -> Any:
    """Load a model that `kept` wrote. Raises ModelRefused when it holds any type that is not in the fixed list."""
    try:
        from skops import io
    except ImportError as exc:
        raise TrainingMissing("skops") from exc
    try:
        strange = set(io.get_untrusted_types(data=file)) - TRUSTED
        if strange:
            names = ", ".join(sorted(strange))[:500]
            raise ModelRefused(f"The stored model holds {names}, which this release does not trust: not loaded.")
        return io.loads(file, trusted=sorted(TRUSTED))
    except ModelRefused:
        raise
    except Exception as exc:  # whatever a file that is no model makes the reader raise
        raise ModelRefused(f"The stored model cannot be read: {type(exc).__name__}: {str(exc)[:300]}") from exc
