"""The Claude Agent SDK: `can_use_tool` asks people in Signalbox before Claude uses a tool.

pip install claude-agent-sdk ./signalbox_client

options = ClaudeAgentOptions(can_use_tool=asks_signalbox(box))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from claude_agent_sdk import PermissionResultAllow, PermissionResultDeny, ToolPermissionContext

from signalbox_client import AsyncSignalbox, SignalboxError

Result = PermissionResultAllow | PermissionResultDeny


def asks_signalbox(
    box: AsyncSignalbox, *, wait: float = 3600
) -> Callable[[str, dict[str, Any], ToolPermissionContext], Awaitable[Result]]:
    """Return what `can_use_tool` takes. Who cannot ask may not do it."""

    async def can_use_tool(tool: str, given: dict[str, Any], context: ToolPermissionContext) -> Result:
        try:
            asked = await box.ask(
                f"Let Claude use {tool}",
                tool=tool,
                arguments=given,
                key=f"claude/{context.tool_use_id}",
                reports=False,
            )
            answer = await box.answer(asked, wait=wait)
        except SignalboxError as exc:
            return PermissionResultDeny(message=f"Nobody could be asked: {exc}")
        if answer is not None and answer.approved:
            return PermissionResultAllow(updated_input=answer.arguments)
        if answer is not None and answer.verdict == "respond":
            return PermissionResultDeny(message=str(answer.answer))
        return PermissionResultDeny(message=(answer.note if answer else "") or "Nobody has approved it.")

    return can_use_tool
