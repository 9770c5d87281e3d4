"""The flow that makes the dataset `evaluation_set`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import EVALUATION_SET, EvaluationParameters
from dataplane.contents.records import Records
from dataplane.flows.decisions import cases, read_decided
from dataplane.flows.producing import produces


@produces(EVALUATION_SET)
def regenerate_eval_set(parameters: EvaluationParameters) -> Records:
    """Read what people decided about the released tools, remove personal data, and split it by run."""
    return cases(read_decided(parameters.tools))
