"""The flow that makes the dataset `handbook`: the order of its steps, nothing else."""

from __future__ import annotations

from dataplane.catalogue import HANDBOOK, HandbookParameters
from dataplane.contents.passages import PassageContent
from dataplane.flows.producing import produces
from dataplane.flows.steps import step, unvisited
from dataplane.flows.tasks import embed, read_documents, split


@produces(HANDBOOK)
def refresh_handbook(parameters: HandbookParameters) -> PassageContent:
    """Read, split, embed and publish the handbook."""
    with step("Read"):
        documents = read_documents(parameters.folder)
    with step("Split"):
        passages = split(unvisited(documents), parameters)
    with step("Embed"):
        return embed(HANDBOOK.name, unvisited(passages), with_questions=not parameters.folder)
