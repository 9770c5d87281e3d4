"""Refresh and ask again, walked: real Temporal, real Prefect, real flows, real checkpoints, the support agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client as Browser
from django.urls import reverse

from approvals.models import Approval, AuditEvent
from approvals.reading.requests import asked_after, asked_before
from dataplane import selectors
from dataplane.models import Dataset, DatasetVersion, Refresh
from orchestration import services, thinking_again
from orchestration.agents.offline_model import OfflineModel
from orchestration.models import Effect, Rethinking, Run
from orchestration.relay.chores import CHORES
from orchestration.threads import in_database
from orchestration.turns import activity as module
from stack.temporal import Temporal
from tests import session_postgres
from tests.dataplane.conftest import database_url, handbook, prefect_server, running_prefect
from tests.dataplane.test_flows_for_real import Start, home, start_flows, wait_until
from tests.fakes import FakeWorld
from tests.orchestration.conftest import INPUT, decide, go, reviewer
from tests.orchestration.real_worker import relaying_too
from tests.waiting import until

__all__ = ["database_url", "home", "prefect_server", "running_prefect", "start_flows"]  # fixtures
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]
RULE = "Damaged goods are paid back.\nRefund share: {} %"


@pytest.fixture(scope="module")
def server() -> Iterator[Temporal]:
    """A server of its own: its only worker is the one of the test."""
    found = Temporal(session_postgres.HOME / "temporal for thinking again", time_skipping=False)
    found.start()
    yield found
    found.stop()


def pending(run: Run) -> Approval | None:
    waiting = Run.objects.filter(pk=run.pk, status="waiting").values("pk")
    return Approval.objects.filter(run_id__in=waiting, status="pending").first()


def press(run: Run, who: User) -> Any:
    """Let a person press the button of the page; return the page that the browser ends on."""
    browser = Browser()
    browser.force_login(who)
    address = reverse("orchestration:think_again", args=[run.pk])
    shown = browser.get(address)
    assert "What will happen" in shown.text, shown.text
    return browser.post(address, {"reason": "The rules have changed."}, follow=True)


async def ended(run: Run) -> Rethinking:
    """Return the newest wish, once it does not wait any more."""
    found: Rethinking = await until(
        lambda: (
            Rethinking.objects.filter(run=run).exclude(state="waiting").order_by("-pk").first()
            if not thinking_again.waiting_of(run.pk)
            else None
        )
    )
    return found


async def walk(run: Run, world: FakeWorld, folder: Path) -> None:
    alice = await in_database(reviewer)
    first: Approval = await until(lambda: pending(run))
    assert '"100.00"' in bytes(first.canonical).decode()

    def page_says() -> str:
        browser = Browser()
        browser.force_login(alice)
        return browser.get(reverse("approvals:approval", args=[first.pk])).text

    # Nobody has confirmed for long: a refresh that finds the same words makes the request's data fresh again.
    await in_database(lambda: Dataset.objects.update(confirmed_at="2026-01-01T00:00:00Z"))
    text = await in_database(page_says)
    assert "Not confirmed" in text and "Refresh and ask again" in text
    await in_database(lambda: press(run, alice))
    assert (await ended(run)).state == "unchanged"
    assert (await in_database(lambda: pending(run))) == first
    assert "Still current" in await in_database(page_says)

    # A refresh that fails leaves the request as it was, and says why.
    (folder / "broken.md").write_text("no front matter")
    await in_database(lambda: press(run, alice))
    failed = await ended(run)
    assert failed.state == "failed" and "front matter" in failed.detail
    assert (await in_database(lambda: pending(run))) == first
    assert "front matter" in await in_database(page_says)
    (folder / "broken.md").unlink()

    # The document changed: two clicks are one wish, and the agent asks for what the new words say.
    handbook(folder, damage=RULE.format(50))

    def twice() -> None:
        wishes = [thinking_again.ask(run_id=run.pk, by=alice, reason="The rules have changed.") for _ in range(2)]
        assert wishes[0] == wishes[1] and Refresh.objects.filter(pk__in=wishes[0].refreshes).count() == 1
        assert "waits for the refresh of handbook" in page_says()

    await in_database(twice)
    assert (await ended(run)).state == "done"
    second: Approval = await until(lambda: pending(run))
    await in_database(first.refresh_from_db)
    assert second != first and first.status == "withdrawn"
    before = await in_database(lambda: asked_before(second))
    assert before is not None and before.approval == first and not before.is_same
    assert before.new_reads == ["handbook version 2 instead of 1"]
    assert await in_database(lambda: asked_after(first)) == second

    def second_page() -> str:
        browser = Browser()
        browser.force_login(alice)
        return browser.get(reverse("approvals:approval", args=[second.pk])).text

    text = await in_database(second_page)
    assert "Asked in place of an earlier request" in text and "50.00" in text and "Still current" in text
    assert "Asked again in its place" in await in_database(page_says)
    await in_database(lambda: decide(second))
    await until(Effect.objects.filter(pk=second.pk, status="done").exists)

    # Decided meanwhile: the decision stands, the wish is dropped.
    third: Approval = await until(lambda: pending(run))
    assert third.tool == "send_email"

    def ask_and_decide() -> None:
        thinking_again.ask(run_id=run.pk, by=alice, reason="Once more.")
        decide(third)

    await in_database(ask_and_decide)
    dropped = await ended(run)
    assert dropped.state == "dropped" and "that decision stands" in dropped.detail
    await until(Run.objects.filter(pk=run.pk, closed_at__isnull=False).exists)


def test_a_reviewer_refreshes_what_the_agent_read_and_it_thinks_again(
    server: Temporal, home: Path, start_flows: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    handbook(home / "handbook", damage=RULE.format(100))
    monkeypatch.setattr(module, "chat_model", OfflineModel)
    start_flows()
    wait_until(DatasetVersion.objects.exists)
    olga, _ = User.objects.get_or_create(username="olga")
    olga.groups.add(Group.objects.get_or_create(name="operator")[0])
    run, _ = services.start_run(agent="support", given=INPUT, requested_by=olga)
    world = FakeWorld()

    async def inside() -> None:
        chores = [one for one in CHORES if one.name == "have runs think again"]
        async with relaying_too(server, world, chores):
            await walk(run, world, home / "handbook")

    go(inside())
    run.refresh_from_db()
    assert run.status == "finished", run.error
    assert [refund["amount"] for refund in world.shop.refunds.values()] == ["50.00"], "one refund, by the new rule"
    assert selectors.current_versions(["handbook"]) == {"handbook": 2}
    kinds = list(AuditEvent.objects.filter(subject=run.pk, kind__contains="again").values_list("kind", flat=True))
    assert kinds.count("run.asked_to_think_again") == 4 and kinds.count("run.thought_again") == 1
