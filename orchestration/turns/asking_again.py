"""Have a graph ask again what it had asked: under new ids, and as its state is now.

It helps where an answer cannot be given: the state holds another call than was approved, or a graph saved an answer
before it checked it and refuses every other one for ever.
"""

from __future__ import annotations

from typing import Any

from langgraph.errors import InvalidUpdateError

from orchestration.errors import CannotAskAgain
from orchestration.pausing import Stand


async def ask_again(root: Any, stand: Stand, interrupt_ids: set[str] | None = None) -> None:
    """Drop the pending interrupts, and answers to them that were saved; the graph asks again at its next call.

    `root`: the outermost graph, whose saver those inside it take. `stand`: from `stand_of` with the saver that the
    graph holds. `interrupt_ids`: None is all of them. Whatever else waits in the same step is asked again too, and a
    node of the same step that has ended runs once more: LangGraph (1.2.22) drops what it wrote. Raises CannotAskAgain.
    """
    asking: dict[str, Any] = {}
    for interrupt_id, (_, snapshot) in stand.asked_by.items():
        if interrupt_ids is None or interrupt_id in interrupt_ids:
            asking[str(snapshot.config["configurable"].get("checkpoint_ns", ""))] = snapshot
    if not asking:
        raise CannotAskAgain("The agent waits for no answer, so there is nothing that it could ask again.")
    for snapshot in asking.values():
        config = {"configurable": {**snapshot.config["configurable"]}}
        config["configurable"].pop("checkpoint_id", None)
        try:
            await root.aupdate_state(config, None)
        except InvalidUpdateError as exc:
            names = " and ".join(f"“{node}”" for node in snapshot.next)
            raise CannotAskAgain(
                f"Which step led to {names} is not clear from what is kept, so the agent cannot be made to ask again."
            ) from exc
