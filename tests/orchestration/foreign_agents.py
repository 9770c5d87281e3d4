"""The foreign graphs as agents of a worker process of its own: SIGNALBOX_AGENTS names what stands here.

What their tools do is written to the file that is named by FOREIGN_WORLD, a line for each time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from langgraph.config import get_config

from signalbox import Agent
from tests.orchestration import foreign_graphs as foreign


class _Written:
    """Takes what a tool does, with the run that it did it for."""

    def append(self, done: tuple[str, Any]) -> None:
        thread: str = get_config()["configurable"]["thread_id"]
        with Path(os.environ["FOREIGN_WORLD"]).open("a") as file:
            file.write(json.dumps([thread, *done]) + "\n")


foreign.WORLD = _Written()  # type: ignore[assignment]

batched = foreign.hitl()
per_call = foreign.hitl("per_call")
inbox = foreign.asking([foreign.HUMAN, foreign.HUMAN])
inbox_text = foreign.asking(json.dumps(foreign.HUMAN))
questions = foreign.asking("Shall I?", {"question": "How much?", "unit": "EUR"})
with_schema = foreign.asking("How much?", schema=foreign.Amount)
parallel = foreign.parallel()
subgraph = foreign.subgraph()
stop = foreign.stopped(interrupt_before=["second"])
deep = foreign.deep()
asking_tool = foreign.asking_tool()
loop = foreign.loop()
patient = Agent(
    name="patient",
    title="Patient",
    graph="tests.orchestration.foreign_agents.questions",
    on_silence={"nobody": True},
)
