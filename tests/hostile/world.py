"""One of everything that an address can name, and a caller of each kind, for tests that knock at every door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group, User

from approvals.models import Approval, Delegation, SavedView, StandingApproval
from approvals.services import requesting
from approvals.services.requesting import ProgramRequest
from console.clock import database_now
from dataplane.catalogue import HANDBOOK
from dataplane.embedding import DIMENSIONS
from dataplane.models import Dataset, DatasetVersion, Passage
from dataplane.refreshes.request import request_refresh
from orchestration import webhook_secrets
from orchestration.actions import bulk
from orchestration.models import Batch, Run, RunView, SignalPair
from tests.dataplane.fakes import FakePrefect
from tests.orchestration.batches.conftest import make_batch
from tests.orchestration.conftest import make_run, open_for

from .rows import Rows

ROLES = ("reviewer", "operator", "admin")
VIEW = 1_000_001  # beyond what a test makes by itself: an address of either list takes the number


@dataclass(frozen=True)
class World:
    """The ids that addresses take, and what forms and bodies take besides, by their names."""

    everybody: User  # has every role of people
    robot: User  # a service account
    ids: dict[str, Any]
    plausible: dict[str, str]  # what a form's field may hold
    before: Rows  # what there is, so that what a request has written can be told


def make_world(prefect: FakePrefect) -> World:
    """Make it. Nothing of it is an engine's but a flow run in the fake Prefect."""
    everybody = User.objects.create_superuser("everybody", password="one that nobody types")
    other, robot = User.objects.create_user("other"), User.objects.create_user("robot")
    for role in ROLES:
        everybody.groups.add(Group.objects.get_or_create(name=role)[0])
    other.groups.add(Group.objects.get_or_create(name="reviewer")[0])
    robot.groups.add(Group.objects.get_or_create(name="service")[0])
    run = make_run(requested_by=everybody, status=Run.Status.WAITING)
    approval = open_for(run, risk="low")
    asked, _ = requesting.request_approval(asked=_asked(), requested_by=robot)
    batch = make_batch(everybody)
    now = database_now()
    window = {"starts_at": now, "ends_at": now + timedelta(days=1)}
    delegation = Delegation.objects.create(principal=everybody, delegate=other, made_by=everybody, **window)
    standing = StandingApproval.objects.create(
        agent=approval.agent,
        tool=approval.tool,
        conditions=[{"path": "order_id", "is": "8801"}],
        reason="always right",
        made_from=approval,
        made_by=everybody,
        expires_at=now + timedelta(days=1),
        uses_at_most=3,
    )
    _publish()
    flow_run = prefect.create_flow_run(
        flow=HANDBOOK.flow, deployment=HANDBOOK.deployment, parameters={}, idempotency_key="k", name="a"
    )
    refresh, _ = request_refresh(dataset=HANDBOOK.name, key="k", parameters={}, user=everybody)
    many = bulk.begin(run_ids=[run.pk], action="end", reason="no longer needed", by=everybody, options={})
    ids: dict[str, Any] = {
        "approval_id": approval.pk,
        "asked_id": asked.pk,
        "run_id": run.pk,
        "bulk_id": many.pk,
        "batch_id": batch.pk,
        "view_id": VIEW,
        "form": "csv",
        "action": "end",
        "checkpoint_id": str(uuid4()),
        "flow_run_id": flow_run.id,
        "refresh_id": refresh.pk,
        "dataset": HANDBOOK.name,
        "name": HANDBOOK.name,
        "number": 1,
        "delegation_id": delegation.pk,
        "standing_id": standing.pk,
        "pair_id": _pair(robot).pk,
        "account_id": robot.pk,
        "secret_id": webhook_secrets.create(account=robot, by=None).row.pk,
        "view": "customers",
    }
    SavedView.objects.create(pk=VIEW, owner=everybody, name="mine", query="?tool=x")
    RunView.objects.create(pk=VIEW, owner=everybody, name="mine", query="?agent=support")
    return World(everybody, robot, ids, _plausible(approval, run, batch), Rows.now())


def _asked() -> ProgramRequest:
    return ProgramRequest(
        title="Delete the old index",
        tool="delete_index",
        arguments={"name": "old"},
        external_id="1",
        deliver_to=None,
        arguments_schema={},
        verdicts=(),
        risk="low",
        agent_words="",
        audience=(),
        due_at=None,
        reports_outcome=None,
    )


def _pair(robot: User) -> SignalPair:
    return SignalPair.objects.create(
        account=robot.username, namespace="default", signal="decided", asked_by=robot.username
    )


def _publish() -> None:
    dataset = Dataset.objects.create(name=HANDBOOK.name, title=HANDBOOK.title, fresh_for=HANDBOOK.fresh_for)
    for number in (1, 2):
        version = DatasetVersion.objects.create(
            dataset=dataset, version=number, digest=str(number), rows=1, parameters={}
        )
        Passage.objects.create(
            version=version,
            position=0,
            document="d",
            title="t",
            heading="h",
            text=f"text {number}",
            status="active",
            embedding=[0.0] * DIMENSIONS,
        )
    dataset.current_version = version
    dataset.save()


def _plausible(approval: Approval, run: Run, batch: Batch) -> dict[str, str]:
    return {
        "reason": "no longer needed",
        "note": "because",
        "verdict": "reject",
        "version": str(approval.version),
        "digest": approval.digest,
        "item": f"{approval.pk}:{approval.version}:{approval.digest}",
        "id": approval.pk,
        "ids": run.pk,
        "action": "end",
        "agent": "support",
        "key": "k",
        "name": "a name",
        "query": "?tool=x",
        "to": "other",
        "starts_at": "2030-01-01 10:00",
        "ends_at": "2030-01-02 10:00",
        "zone": "Europe/Berlin",
        "cron-0": "0 6 * * *",
        "slug-0": "main",
        "timezone-0": "UTC",
        "from": "2026-11-01",
        "limit": "10",
        "table": "order_id,message\n1,broken",
        "do": "start",
        "text": "a remark",
        "check": "1",
        "batch": batch.pk,
    }
