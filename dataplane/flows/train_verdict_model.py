"""The flow that makes the dataset `verdict_model`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import EVALUATION_SET, VERDICT_MODEL, NoParameters
from dataplane.contents.base import Withheld
from dataplane.contents.trained import TrainedModel
from dataplane.flows.learning import checked, fit, judged, read_cases
from dataplane.flows.producing import produces
from dataplane.flows.training import too_little

NO_CASES = (
    "The evaluation set has no version yet, so there is nothing to train on. Refresh it first, and name the tools "
    "whose decisions may be used."
)


@produces(VERDICT_MODEL)
def train_verdict_model(parameters: NoParameters) -> TrainedModel | Withheld:
    """Train on what people decided, judge on cases held out, and publish the model if it is better than before."""
    found = read_cases(EVALUATION_SET.name)
    if found is None:
        return Withheld(NO_CASES)
    cases = checked(found)
    if missing := too_little(cases.cases):
        return Withheld(missing.sentence)
    fitted, vectors = fit(cases)
    return judged(VERDICT_MODEL.name, EVALUATION_SET.name, cases, fitted, vectors)
