"""An older backup of the database: found by the heads that were kept, told, and nothing is done a second time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from approvals.models import AuditEvent
from approvals.record.heads import Publisher
from console import health
from console.clock import database_now
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import findings, restored
from orchestration.models import Finding, Run
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import decide, make_run, open_for
from tests.orchestration.test_reconciling import known, look
from tests.tables_owner import as_the_tables_owner

pytestmark = pytest.mark.django_db(transaction=True)


def forget_newest(count: int) -> None:
    """Let the database be as it was before the newest entries of its record."""
    with as_the_tables_owner() as cursor:
        newest = list(AuditEvent.objects.order_by("-seq").values_list("seq", flat=True)[:count])
        cursor.execute("DELETE FROM approvals_auditevent WHERE seq = ANY(%s)", [newest])


def backed_up_and_gone_on() -> tuple[Run, Run]:
    """Return two open runs of a backup; the heads tell that the record had gone on after it."""
    settings.AUDIT_HEADS_FILE.unlink(missing_ok=True)
    moved, still = make_run(status="waiting"), make_run(status="waiting")
    decide(open_for(moved))
    open_for(still)
    Publisher().step()
    open_for(make_run(status="finished"))
    Publisher().step()
    assert not restored.check()
    forget_newest(1)
    return moved, still


def test_the_heads_tell_that_the_database_is_older_and_every_page_says_it(transactional_db: None) -> None:
    backed_up_and_gone_on()
    assert restored.check()
    health._noticed = (float("-inf"), [])
    (said,) = findings.told()
    assert "The database is older than the engines" in said["sentence"]
    assert "2 open runs of the backup are compared with Temporal" in said["sentence"]
    Publisher().step()  # and the chain goes on from the backup
    assert not restored.check()
    assert findings.told() == [said]
    Finding.objects.update(since=database_now() - timedelta(days=8))
    assert findings.told() == []


def test_a_run_that_went_on_after_the_backup_is_closed_and_one_that_stood_still_goes_on(
    transactional_db: None,
) -> None:
    temporal = FakeTemporal()
    moved, still = backed_up_and_gone_on()
    assert restored.check()
    lost = restored.lost_for(moved.pk)
    assert lost is not None
    known(temporal, moved)
    known(temporal, still)
    temporal.moves[moved.pk] = [lost.end - timedelta(seconds=1)]
    temporal.moves[still.pk] = [lost.begin - timedelta(minutes=5), datetime.now(UTC) + timedelta(days=1)]
    look(temporal)
    moved.refresh_from_db()
    still.refresh_from_db()
    assert (moved.status, (moved.error or {})["kind"], still.status) == ("failed", "older_database", "waiting")
    assert [entry.subject for entry in OutboxEntry.objects.filter(kind=Kind.TERMINATE_RUN)] == [moved.pk]
    assert restored.lost_for(moved.pk) is restored.lost_for(still.pk) is None
    asked = len(temporal.calls)
    Run.objects.update(look_due_at=database_now())
    look(temporal)
    assert [call for call in temporal.calls[asked:] if call.startswith("moved")] == []


def test_a_chain_that_has_all_kept_heads_is_not_older(transactional_db: None) -> None:
    settings.AUDIT_HEADS_FILE.unlink(missing_ok=True)
    assert not restored.check()
    open_for(make_run(status="waiting"))
    Publisher().step()
    open_for(make_run(status="waiting"))
    assert not restored.check()
    assert findings.told() == []
