"""One customer's case: an order in the shop and the run of the support agent about it, as people see them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from drills.stage import Row, Stage
from drills.waiting import until

#: it is due a share of the price only, so that the shop would pay a second refund
MESSAGE = "The parcel came nine days late. We keep the goods, but I expect something back for such a late delivery."
REFUND, EMAIL = "issue_refund", "send_email"
READS = ("GET /orders", "GET /refunds")


async def place_order(stage: Stage, amount: str = "80.00") -> str:
    """Place an order in the shop; return its id."""
    order = {"customer": "Test Person", "amount": amount, "currency": "EUR", "status": "delivered"}
    return str((await stage.shop_json("POST", "/orders", order))["id"])


@dataclass
class Case:
    """A run and its order; what must be true at the end is said by the fault."""

    stage: Stage
    order_id: str
    run_id: str
    decided: list[str] = field(default_factory=list)  # approvals that answered 200 to a decision
    reads: dict[str, int] = field(default_factory=lambda: dict.fromkeys(READS, 1))  # how often the order may be read

    @classmethod
    async def open(cls, stage: Stage, amount: str = "80.00") -> Case:
        """Place an order and start a run about it."""
        order_id = await place_order(stage, amount)
        return await cls.start(stage, order_id, "support", {"order_id": order_id, "message": MESSAGE})

    @classmethod
    async def guarded(cls, stage: Stage) -> Case:
        """Place an order and start the run of LangChain's agent about it."""
        order_id = await place_order(stage)
        return await cls.start(stage, order_id, "guarded", {"messages": [{"role": "user", "content": order_id}]})

    @classmethod
    async def start(cls, stage: Stage, order_id: str, agent: str, given: Row) -> Case:
        """Start a run about an order that is there."""
        body = {"agent": agent, "input": given, "idempotency_key": f"drill-{uuid.uuid4().hex[:12]}"}
        answer = await stage.ask("olga", "/runs", body)
        answer.raise_for_status()
        return cls(stage, order_id, str(answer.json()["id"]))

    async def pending(self, tool: str) -> Row:
        """Wait until the run asks for a decision about the tool; return the approval as a reviewer reads it."""
        query = "SELECT id FROM approvals_approval WHERE run_id = %s AND tool = %s AND status = 'pending'"

        async def look() -> list[Row]:
            return await self.stage.sql(query, [self.run_id, tool])

        rows = await until(look, f"an approval for {tool} of {self.run_id}")
        return await self.stage.get("alice", f"/approvals/{rows[0]['id']}")

    async def steady_at(self, tool: str) -> Row:
        """Wait as `pending` does, before anything strikes; what a starved machine read twice until then may stay."""
        approval = await self.pending(tool)
        self.reads = {request: self.stage.shop.counts[request, self.order_id] for request in READS}
        return approval

    def answer_to(self, approval: Row, verdict: str = "approve") -> Row:
        note = "The drill says no." if verdict == "reject" else ""
        return {"verdict": verdict, "version": approval["version"], "digest": approval["digest"], "note": note}

    async def decide(self, approval: Row, verdict: str = "approve", who: str = "alice") -> None:
        """Decide; a lost answer is asked for again under the same key until there is one. Raises when refused."""
        path = f"/approvals/{approval['id']}/decision"
        answer = await self.stage.ask(who, path, self.answer_to(approval, verdict), key=uuid.uuid4().hex)
        if not answer.is_success:
            raise RuntimeError(f"decision of {approval['id']}: {answer.status_code} {answer.text[:300]}")
        self.decided.append(approval["id"])

    async def finished(self) -> Row:
        """Wait until the run has finished and its workflow has ended; return the run."""
        rows: list[Row] = []

        async def look() -> bool:
            rows[:] = await self.stage.sql("SELECT status, error FROM orchestration_run WHERE id = %s", [self.run_id])
            return rows[0]["status"] in ("finished", "failed", "cancelled")

        await until(look, f"the end of {self.run_id}")
        handle = await self.stage.workflow(self.run_id)

        async def workflow_ended() -> bool:
            return (await handle.describe()).close_time is not None

        await until(workflow_ended, f"the end of the workflow of {self.run_id} (its run is {rows[0]})")
        return await self.stage.get("olga", f"/runs/{self.run_id}")

    async def to_the_end(self) -> Row:
        """Approve what the run still asks for about the e-mail, then wait for its end."""
        await self.decide(await self.pending(EMAIL))
        return await self.finished()

    # What the world and the tables say.

    async def refunds(self) -> list[Row]:
        return list((await self.stage.shop_json("GET", f"/refunds?order_id={self.order_id}"))["items"])

    async def attempts(self) -> list[Row]:
        return list((await self.stage.shop_json("GET", f"/attempts?order_id={self.order_id}"))["items"])

    async def effects(self, tool: str) -> list[Row]:
        query = (
            "SELECT approval_id, status, attempts, result, error FROM orchestration_effect"
            " WHERE run_id = %s AND tool = %s"
        )
        return await self.stage.sql(query, [self.run_id, tool])

    async def checkpoints(self) -> list[Row]:
        """Return the checkpoints, oldest first."""
        page = await self.stage.get("olga", f"/runs/{self.run_id}/checkpoints?limit=200")
        return list(reversed(page["items"]))

    async def tool_messages(self) -> list[str]:
        """Return what the agent was told by its tools, from the newest checkpoint."""
        newest = (await self.checkpoints())[-1]["checkpoint_id"]
        state = await self.stage.get("olga", f"/runs/{self.run_id}/checkpoints/{newest}")
        messages: list[dict[str, Any]] = state["values"].get("messages", [])
        return [str(message.get("content")) for message in messages if message.get("type") == "tool"]
