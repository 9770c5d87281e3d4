"""Somebody else's workflow, on the plain Temporal SDK, that asks through `signalbox_client`."""

from __future__ import annotations

from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from signalbox_client.temporal import WaitsForApproval


@workflow.defn(name="CleanupOfTheirs")
class Cleanup(WaitsForApproval):
    @workflow.run
    async def run(self, index: str, key: str) -> dict[str, Any]:
        arguments = {"name": index}
        title = f"Delete the index {index}"
        answer = await self.approval(title, tool="delete_index", arguments=arguments, key=key, risk="low")
        assert answer is not None
        if answer.approved:
            await self.report(answer, "done", result={"deleted": answer.arguments})
        return {"approval_id": answer.approval_id, "verdict": answer.verdict, "arguments": answer.arguments}
