"""The flow that makes the dataset `retrieval_adapter`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import HANDBOOK, RETRIEVAL_ADAPTER, NoParameters
from dataplane.contents.base import Withheld
from dataplane.contents.trained import TrainedModel
from dataplane.flows.adapting import adapted, read_pairs
from dataplane.flows.producing import produces
from dataplane.flows.steps import unvisited


@produces(RETRIEVAL_ADAPTER)
def train_retrieval_adapter(parameters: NoParameters) -> TrainedModel | Withheld:
    """Learn from the handbook's questions, judge on those held out, and publish what finds more than search without."""
    found = read_pairs(HANDBOOK.name)
    return found if isinstance(found, Withheld) else adapted(unvisited(found))
