"""The invariants, each a question to the world and the tables; the answer lists what was seen to break it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import httpx

from drills.case import EMAIL, Case
from drills.stage import Lost

#: the nodes of an undisturbed run, in order; the drill takes one such run first and compares
UNDISTURBED = [
    *("input", "start", "read_order", "retrieve", "plan", "look_up", "plan"),
    *("propose", "freeze", "gate", "act", "plan"),
    *("propose", "freeze", "gate", "act", "plan", "finish"),
]
QUESTION = ["freeze", "gate", "act"]  # an outcome that nobody saw goes to a person


def statuses(answers: Sequence[httpx.Response]) -> dict[int, int]:
    """Count the answers by status."""
    return dict(Counter(answer.status_code for answer in answers))


def first_of(answers: Sequence[httpx.Response], first: int, others: int, lost: Sequence[Lost]) -> list[str]:
    """Of those who asked for one thing at once, one was first and all others were told so.

    Who lost an answer asked again: if it was the first, its second answer is as the others'.
    """
    found, count = statuses(answers), len(answers)
    if found == {first: 1, others: count - 1} or (lost and found == {others: count}):
        return []
    return [f"{count} who asked at once were answered {found}, and lost before: {[one.why for one in lost]}"]


async def refunded(case: Case, times: int = 1) -> list[str]:
    """The shop has so many refunds of the order, each under the approval's id as its key."""
    found, seen = await case.refunds(), []
    if len(found) != times:
        seen.append(f"order {case.order_id}: {len(found)} refunds, not {times}: {found}")
    keys = {attempt["idempotency_key"] for attempt in await case.attempts()}
    if len(keys) > 1:
        seen.append(f"order {case.order_id}: refunds were asked for under {len(keys)} keys: {sorted(map(str, keys))}")
    return seen


async def ledger(case: Case, tool: str, status: str) -> list[str]:
    """The ledger has one effect of the tool, with this status, started once and ended at most once."""
    rows, seen = await case.effects(tool), []
    if [row["status"] for row in rows] != [status]:
        seen.append(f"run {case.run_id}: effects of {tool} are {rows}, not one {status}")
    for row in rows:
        events = await case.stage.sql(
            "SELECT kind, count(*) AS n FROM approvals_auditevent WHERE subject = %s AND kind LIKE 'effect.%%'"
            " GROUP BY kind",
            [row["approval_id"]],
        )
        counts = {event["kind"]: event["n"] for event in events}
        if counts.get("effect.started") != 1 or counts.get("effect.finished", 0) > 1:
            seen.append(f"approval {row['approval_id']}: the record has {counts}")
    return seen


async def mailed(case: Case, at_least: int, at_most: int = 1) -> list[str]:
    """The mail system has accepted so many messages about the order."""
    count = case.stage.mail.counts[case.order_id]
    if at_least <= count <= at_most:
        return []
    return [f"order {case.order_id}: {count} e-mails, not {at_least} to {at_most}"]


async def straight(case: Case) -> list[str]:
    """The thread is one chain: each checkpoint follows the one before, each step is there once."""
    points = await case.checkpoints()
    return [
        f"run {case.run_id}: checkpoint {after['checkpoint_id']} (step {after['step']}, {after['node']}) does not"
        f" follow {before['checkpoint_id']} (step {before['step']}, {before['node']})"
        for before, after in pairwise(points)
        if after["parent_checkpoint_id"] != before["checkpoint_id"] or after["step"] != before["step"] + 1
    ]


async def as_undisturbed(case: Case, *, asked: bool = False) -> list[str]:
    """The graph went the way of an undisturbed run, no node twice; the order was not read again after `steady_at`.

    `asked`: a person was asked about the e-mail's outcome, which adds three nodes.
    """
    nodes = [point["node"] for point in await case.checkpoints()]
    last_act = len(UNDISTURBED) - 1 - UNDISTURBED[::-1].index("act")
    wanted = [*UNDISTURBED[: last_act + 1], *(QUESTION if asked else []), *UNDISTURBED[last_act + 1 :]]
    seen = [] if nodes == wanted else [f"run {case.run_id}: the nodes were {nodes}, not {wanted}"]
    counts = case.stage.shop.counts
    for request, wanted_times in case.reads.items():
        if (times := counts[request, case.order_id]) != wanted_times:
            seen.append(f"order {case.order_id}: {request} came {times} times, not {wanted_times}")
    return seen


async def well_ended(case: Case, *, asked: bool = False) -> list[str]:
    """All that must hold of a run whose refund and e-mail were approved."""
    run = await case.finished()
    seen = [] if run["status"] == "finished" else [f"run {case.run_id} is {run['status']}: {run['error']}"]
    seen += await refunded(case)
    seen += await ledger(case, "issue_refund", "done")
    if not asked:
        seen += await ledger(case, EMAIL, "done") + await mailed(case, 1)
    seen += await straight(case) + await as_undisturbed(case, asked=asked)
    return seen
