"""Can the checker fail? Break the invariants on purpose and see that each break is reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from drills import checks
from drills.case import REFUND, Case
from drills.stage import Stage
from drills.trials import Outcome, Trial, guarded

Plant = Callable[[Case], Awaitable[None]]


async def second_refund(case: Case) -> None:
    """Refund again, directly in the shop, under another key."""
    refund = {"order_id": case.order_id, "amount": "0.01", "currency": "EUR", "reason": "planted by the drill"}
    await case.stage.shop_json("POST", "/refunds", refund, **{"Idempotency-Key": f"planted-{case.order_id}"})


async def second_email(case: Case) -> None:
    """Send the e-mail again, directly to the mail system."""
    case.stage.mail.take(f"Subject: Your order {case.order_id}\n\nplanted by the drill".encode())


async def forked_thread(case: Case) -> None:
    """Give the thread's newest checkpoint a brother."""
    await case.stage.sql(
        "INSERT INTO agent.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,"
        " checkpoint, metadata) SELECT thread_id, checkpoint_ns, checkpoint_id || '-planted', parent_checkpoint_id,"
        " type, checkpoint, metadata FROM agent.checkpoints WHERE thread_id = %s"
        " ORDER BY checkpoint_id DESC LIMIT 1",
        [case.run_id],
    )


async def repeated_read(case: Case) -> None:
    """Read the order once more, as a node that runs again would."""
    case.stage.shop.counts["GET /orders", case.order_id] += 1


PLANTS: tuple[tuple[Plant, str], ...] = (
    (second_refund, "2 refunds, not 1"),
    (second_email, "2 e-mails, not 1 to 1"),
    (forked_thread, "does not follow"),
    (repeated_read, "GET /orders came"),
)


async def self_test(stage: Stage) -> Outcome:
    """Take an undisturbed run, which must have nothing wrong; then each plant must be seen."""
    trials = [Trial(number + 1, len(PLANTS)) for number in range(len(PLANTS))]

    async def test() -> None:
        case = await Case.open(stage)
        await case.decide(await case.steady_at(REFUND))
        await case.to_the_end()
        for (plant, wanted), trial in zip(PLANTS, trials, strict=True):
            before = await checks.well_ended(case)
            if any(wanted in sentence for sentence in before):
                trial.seen.append(f"seen before it was planted: {before}")
            await plant(case)
            after = await checks.well_ended(case)
            if not any(wanted in sentence for sentence in after):
                trial.seen.append(f"{plant.__name__} was planted and not seen: {after}")
            elif trial.number == 1 and before:
                trial.seen.append(f"an undisturbed run is reported: {before}")

    await guarded(trials[0], test, "self-test")
    return Outcome("checker", "planted violations", "an undisturbed run is clean, and every plant is seen", trials)
