"""`signalbox-mcp`: Signalbox as tools of an MCP client, over stdio or streamable HTTP.

    SIGNALBOX_URL=https://signalbox.example SIGNALBOX_TOKEN=sb_... signalbox-mcp
    signalbox-mcp --http --port 8765

Tools: `request_approval`, `get_answer`, and `permission_prompt`, which has the form that Claude Code's
`--permission-prompt-tool` takes. Over HTTP everybody who reaches the port asks as the one account whose token this
process has: it listens on this machine only, unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import uuid
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from signalbox_client.client import AsyncSignalbox
from signalbox_client.errors import SignalboxError

LONGEST_WAIT = 600.0  # seconds of one call: clients give up on their own


def make_server(box: AsyncSignalbox, *, prompt_wait: float = 3600.0) -> MCPServer:
    """Return the server. `prompt_wait`: seconds that a permission prompt waits before it is denied."""
    server = MCPServer("signalbox", instructions="Ask people before you do what cannot be undone, then wait.")

    async def request_approval(
        title: Annotated[str, Field(description="What shall be done, in one sentence.", max_length=500)],
        tool: Annotated[str, Field(description="The name of the action.", max_length=100)],
        arguments: Annotated[dict[str, Any], Field(description="Exactly what it would be done with.")],
        key: Annotated[str, Field(description="Names this one question; the same key never asks twice.")],
        risk: Annotated[str, Field(description="low, medium or high", pattern="^(low|medium|high)$")] = "high",
        reason: Annotated[str, Field(description="Why, in your own words.")] = "",
    ) -> dict[str, Any]:
        """Ask people whether something may be done. Returns an id; do nothing before `get_answer` says so."""
        try:
            approval = await box.ask(
                title,
                tool=tool,
                arguments=arguments,
                key=key,
                risk=risk,  # type: ignore[arg-type]  # checked above
                words=reason,
                reports=False,  # the model has no tool to say what came of it
            )
        except SignalboxError as exc:
            raise ToolError(str(exc)) from exc
        return {"approval_id": approval.id, "status": approval.status, "url": approval.url}

    async def get_answer(
        approval_id: Annotated[str, Field(description="From request_approval.", pattern="^[A-Za-z0-9_-]{1,60}$")],
        wait: Annotated[float, Field(description="Seconds to wait for it.", ge=0, le=LONGEST_WAIT)] = 30,
    ) -> dict[str, Any]:
        """Return the answer. Only when `approved` is true, do it, and with the `arguments` that stand there."""
        try:
            answer = await box.answer(approval_id, wait=wait)
        except SignalboxError as exc:
            raise ToolError(str(exc)) from exc
        if answer is None:
            return {"status": "pending", "approved": False}
        return {
            "status": answer.status,
            "approved": answer.approved,
            "verdict": answer.verdict,
            "arguments": answer.arguments,
            "answer": answer.answer,
            "note": answer.note,
            "decided_by": answer.decided_by,
        }

    async def permission_prompt(tool_name: str, input: dict[str, Any], tool_use_id: str = "") -> str:
        """Decide by people whether a tool may run: {"behavior": "allow", "updatedInput"} or {"behavior": "deny"}."""
        try:
            approval = await box.ask(
                f"Let the agent use {tool_name}"[:500],
                tool=tool_name[:100],
                arguments=input,
                key=f"permission/{tool_use_id or uuid.uuid4()}",
                reports=False,
            )
            answer = await box.answer(approval, wait=prompt_wait)
            if answer is None:
                answer = await box.give_up(approval, "The agent has stopped waiting.")
        except SignalboxError as exc:  # who cannot ask may not do it
            return json.dumps({"behavior": "deny", "message": f"Nobody could be asked: {exc}"})
        if answer is not None and answer.approved:
            return json.dumps({"behavior": "allow", "updatedInput": answer.arguments})
        why = "Nobody has decided in time." if answer is None else answer.note or f"The request is {answer.status}."
        if answer is not None and answer.verdict == "respond":
            why = str(answer.answer)
        return json.dumps({"behavior": "deny", "message": why})

    for tool in (request_approval, get_answer):
        server.add_tool(tool)
    # Its answer is JSON in one text block. A client that finds structured content as well reads that instead.
    server.add_tool(permission_prompt, structured_output=False)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(prog="signalbox-mcp", description="Signalbox as tools of an MCP client.")
    parser.add_argument("--http", action="store_true", help="streamable HTTP instead of stdio")
    parser.add_argument("--host", default="127.0.0.1", help="where HTTP listens")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--prompt-wait", type=float, default=3600.0, help="seconds that a permission prompt waits")
    given = parser.parse_args()
    server = make_server(AsyncSignalbox(), prompt_wait=given.prompt_wait)
    if given.http:
        server.run("streamable-http", host=given.host, port=given.port)
    else:
        server.run("stdio")
