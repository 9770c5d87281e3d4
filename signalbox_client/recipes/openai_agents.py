"""OpenAI's Agents SDK: a tool that needs approval interrupts the run, and people decide in Signalbox.

pip install openai-agents ./signalbox_client
"""

from __future__ import annotations

import asyncio
import json
import os

from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from signalbox_client import AsyncSignalbox

deleted: list[str] = []


@function_tool(needs_approval=True)
def delete_index(name: str) -> str:
    """Delete a search index."""
    deleted.append(name)
    return f"deleted {name}"


async def run(agent: Agent, task: str, thread: str, box: AsyncSignalbox) -> str:
    """Run the agent, asking people about each call that needs it. The SDK lets nobody change a call's arguments."""
    result = await Runner.run(agent, task)
    while result.interruptions:
        state = result.to_state()
        for item in result.interruptions:
            call = item.raw_item
            asked = await box.ask(
                f"Let the agent call {item.tool_name}",
                tool=item.tool_name,
                arguments=json.loads(call.arguments),
                key=f"{thread}/{call.call_id}",
                verdicts=["approve", "reject"],
                reports=False,
            )
            answer = await box.answer(asked, wait=3600)
            if answer is not None and answer.approved:
                state.approve(item)
            else:
                state.reject(item, rejection_message=f"Not approved: {answer.note if answer else 'nobody decided'}")
        result = await Runner.run(agent, state)
    return str(result.final_output)


def offline() -> ScriptedModel:
    """A model that needs no network: it wants to delete, and then says that it is done."""
    wish = function_call("delete_index", {"name": "orders-2019"}, call_id="call-1")
    return ScriptedModel([[wish], [assistant_message("That was all.")]])


async def main() -> None:
    agent = Agent(name="Cleaner", model=offline(), tools=[delete_index])
    async with AsyncSignalbox() as box:
        said = await run(agent, "Delete the oldest index.", os.environ.get("THREAD", "thread-1"), box)
    print(json.dumps({"said": said, "deleted": deleted}))


if __name__ == "__main__":
    asyncio.run(main())
