"""pydantic-ai: deferred tools that require approval, decided by people in Signalbox.

pip install pydantic-ai-slim ./signalbox_client
"""

from __future__ import annotations

import asyncio
import json
import os

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from signalbox_client import AsyncSignalbox

deleted: list[str] = []


def wants_to_delete(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that needs no network: it wants to delete, and then says that it is done."""
    if any(isinstance(part, ToolReturnPart) for message in messages for part in message.parts):
        return ModelResponse(parts=[TextPart("That was all.")])
    return ModelResponse(parts=[ToolCallPart("delete_index", {"name": "orders-2019"}, tool_call_id="call-1")])


agent = Agent(FunctionModel(wants_to_delete), output_type=[str, DeferredToolRequests])


@agent.tool_plain(requires_approval=True)
def delete_index(name: str) -> str:
    """Delete a search index."""
    deleted.append(name)
    return f"deleted {name}"


async def run(task: str, thread: str, box: AsyncSignalbox) -> str:
    """Run the agent, asking people about each call that needs it; what they change is what is called."""
    result = await agent.run(task)
    while isinstance(result.output, DeferredToolRequests):
        told = DeferredToolResults()
        for call in result.output.approvals:
            asked = await box.ask(
                f"Let the agent call {call.tool_name}",
                tool=call.tool_name,
                arguments=call.args_as_dict(),
                key=f"{thread}/{call.tool_call_id}",
                verdicts=["approve", "edit", "reject"],
                reports=False,
            )
            answer = await box.answer(asked, wait=3600)
            if answer is not None and answer.approved:
                told.approvals[call.tool_call_id] = ToolApproved(override_args=answer.arguments)
            else:
                told.approvals[call.tool_call_id] = ToolDenied(answer.note if answer else "Nobody has decided.")
        result = await agent.run(message_history=result.all_messages(), deferred_tool_results=told)
    return result.output


async def main() -> None:
    async with AsyncSignalbox() as box:
        said = await run("Delete the oldest index.", os.environ.get("THREAD", "thread-1"), box)
    print(json.dumps({"said": said, "deleted": deleted}))


if __name__ == "__main__":
    asyncio.run(main())
