"""The flow that makes the dataset `handbook_index`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import HANDBOOK, HANDBOOK_INDEX, IndexParameters
from dataplane.contents.search_indexes import SearchPlan
from dataplane.flows.indexing import indexed
from dataplane.flows.producing import produces


@produces(HANDBOOK_INDEX)
def rebuild_index(parameters: IndexParameters) -> SearchPlan:
    """Index the current version of the handbook for search, check the index, and put it into service."""
    return indexed(HANDBOOK.name, parameters)
