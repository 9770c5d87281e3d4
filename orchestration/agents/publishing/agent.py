"""The second example: researches a question in the handbook, has two people look at the draft, and sends it out.

It is of another shape than the first: LangChain's `create_agent` as a graph inside the graph, two questions at once,
and a tool of LangChain's under the ledger. Register it by its path, `orchestration.agents.publishing.agent:AGENT`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from orchestration.agents.runtime import Agent


class PublishingInput(BaseModel):
    """A question, and who gets the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(min_length=3, max_length=500, title="Question", description="What the note shall answer.")
    to: str = Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200, title="Readers", description="Where it is sent.")


AGENT = Agent(
    name="publishing",
    title="Research and publish",
    input=PublishingInput,
    graph="orchestration.agents.publishing.graph.build",
    reads=("handbook",),
    on_silence={"is_fine": False, "remark": "Nobody looked in time."},
)
