"""Graphs that were not written for us, on a real Temporal with the Postgres saver and two workers that get killed.

Each shape pauses and is ended in every way that it allows, all of its runs beside each other. What a shape is shown as
and what people can say stands in docs/agents.md, which is read here: the page and the product cannot part.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from django.db import connection, connections
from temporalio.client import Client

from approvals.models import Approval
from approvals.services import climb_overdue
from console.environment import PROJECT
from orchestration.checkpoint_gateway import checkpoint_of
from orchestration.contracts import DECIDED, WORKFLOW, StartRun
from orchestration.models import Run
from orchestration.threads import in_database
from stack.temporal import Temporal
from tests import as_migrated, session_postgres
from tests.orchestration.conftest import go, make_run, reviewer
from tests.orchestration.test_foreign_graphs import give
from tests.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.engines]

QUEUE = "foreign"
HEARTBEAT_SECONDS = 10  # a turn of a killed worker is given to another one after it
KILLED_AT = ("turn.before_graph", "turn.after_graph", "turn.before_report")
TALK: dict[str, Any] = {"messages": [{"role": "user", "content": "Tidy up."}]}
ANN, BOB = "ann@acme.example", "bob@acme.example"
EXPIRED = "RunExpired"


@dataclass(frozen=True)
class End:
    """How a run of a shape has to end when people decide so: what its state holds, or the kind of its failure."""

    holds: tuple[str, ...] = ()
    done: tuple[str, ...] = ()  # by the graph's own tools
    fails: str = ""


@dataclass(frozen=True)
class Shape:
    """An agent of `foreign_agents` and how its runs end, by the verdict that is given wherever it is allowed."""

    agent: str
    kind: str
    ends: Mapping[str, End]
    given: Mapping[str, Any] = field(default_factory=dict)
    edited: Mapping[str, Any] = field(default_factory=lambda: {"to": BOB, "subject": "Report"})
    answer: Any = "Ann knows already."


_TWO_CALLS = {
    "approve": End((f"sent to {ANN}", "deleted report"), ("send_email", "delete_file")),
    "edit": End((f"sent to {BOB}", "deleted report"), ("send_email", "delete_file")),
    "reject": End(("no",)),
    "respond": End(("Ann knows already.", "deleted report"), ("delete_file",)),
    "expired": End(("Nobody decided in time",)),
}
_INBOX = {
    "approve": End(('"accept"',)),
    "edit": End(('"edit"', BOB)),
    "reject": End(('"ignore"',)),
    "respond": End(('"response"', "Ann knows already.")),
    "expired": End(('"ignore"',)),
}
_QUESTION = {"respond": End(("Ann knows already.",)), "expired": End(fails=EXPIRED)}

#: by the name that docs/agents.md gives it
SHAPES: dict[str, Shape] = {
    "LangChain's middleware, batched": Shape("batched", "action", _TWO_CALLS, TALK),
    "the same, `per_call`": Shape("per_call", "action", _TWO_CALLS, TALK),
    "Agent Inbox, a list": Shape("inbox", "action", _INBOX),
    "Agent Inbox, as JSON text": Shape("inbox_text", "action", _INBOX),
    "`interrupt()`": Shape("questions", "question", _QUESTION),
    "the same with `on_silence`": Shape("patient", "question", {**_QUESTION, "expired": End(('"nobody": true',))}),
    "`interrupt()` with a schema": Shape(
        "with_schema",
        "question",
        {"respond": End(('"amount": 5',)), "expired": End(fails=EXPIRED)},
        answer={"amount": 5},
    ),
    "three nodes at once": Shape("parallel", "question", _QUESTION),
    "a graph inside a graph": Shape("subgraph", "question", _QUESTION),
    "`interrupt_before`": Shape(
        "stop",
        "go_on",
        {
            "approve": End(("first", "second"), ("first", "second")),
            "reject": End(done=("first",), fails="NotAllowedToGoOn"),
            "expired": End(done=("first",), fails=EXPIRED),
        },
    ),
    "a deep agent's helper": Shape(
        "deep",
        "action",
        {
            "approve": End(("The helper is done.",), ("delete_file",)),
            "reject": End(("The helper is done.",)),
            "expired": End(("The helper is done.",)),
        },
        TALK,
    ),
    "a tool that interrupts": Shape(
        "asking_tool",
        "question",
        {"respond": End(("booked: Ann knows already.",), ("book",)), "expired": End(fails=EXPIRED)},
        TALK,
    ),
    "a loop of twenty": Shape("loop", "question", _QUESTION),
}
#: one that asks for tools, one that asks twice inside a graph
STRUCK = ("LangChain's middleware, batched", "a graph inside a graph")
EVERY_SHAPE = 1000  # examples; `make nightly` asks for more


class Workers:
    """Two processes of `manage.py run_worker`; a dead one is started again by whoever looks."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = environment
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []
        self._tending = Lock()  # runs are watched side by side

    def tend(self) -> None:
        with self._tending:
            self._running = [one for one in self._running if one.poll() is None]
            while len(self._running) < 2:
                self._start()

    def _start(self) -> None:
        with (self._logs / "foreign-workers.log").open("ab") as log:
            self._running.append(
                subprocess.Popen(
                    [sys.executable, "manage.py", "run_worker"],
                    cwd=PROJECT,
                    env=dict(self._environment),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def stop(self) -> None:
        for one in self._running:
            one.terminate()
        for one in self._running:
            one.wait()


@pytest.fixture(scope="module")
def workers(temporal: Temporal, django_db_setup: None, django_db_blocker: Any) -> Iterator[Workers]:
    home = session_postgres.HOME
    (home / "faults").mkdir(exist_ok=True)
    agents = ",".join(f"{shape.agent}=tests.orchestration.foreign_agents:{shape.agent}" for shape in SHAPES.values())
    environment = {
        **os.environ,
        "DATABASE_URL": session_postgres.SERVER.url(connection.settings_dict["NAME"]),
        "TEMPORAL_ADDRESS": temporal.address,
        "TEMPORAL_NAMESPACE": temporal.namespace,
        "SIGNALBOX_TASK_QUEUE": QUEUE,
        "SIGNALBOX_AGENTS": agents,
        "SIGNALBOX_FAULTS": "true",
        "FOREIGN_WORLD": str(world_file()),
        "PYTHONPATH": str(PROJECT),
    }
    world_file().touch()
    found = Workers(environment, home)
    found.tend()
    yield found
    found.stop()
    with django_db_blocker.unblock():
        as_migrated.restore()  # their heartbeats


def world_file() -> Path:
    return session_postgres.HOME / "foreign-world.jsonl"


def done_for(run_id: str) -> set[str]:
    """Return the tools that did something for the run. How often is not promised: they are not tracked."""
    lines = [json.loads(line) for line in world_file().read_text().splitlines()]
    return {name for thread, name, _ in lines if thread == run_id}


def shapes_of_the_page() -> dict[str, tuple[str, str]]:
    """Return what docs/agents.md says of each shape: the kind of its request, and what people can say."""
    text = (PROJECT / "docs" / "agents.md").read_text()
    table = text.partition("<!-- shapes -->")[2].partition("<!-- /shapes -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return {row[0]: (row[1], row[2]) for row in rows}


@dataclass
class Stage:
    """The runs of one test and how they are told what people decided."""

    client: Client
    workers: Workers

    async def start(self, shape: Shape) -> Run:
        run = await in_database(
            make_run, id=f"{shape.agent}-{os.urandom(6).hex()}", agent=shape.agent, input=shape.given
        )
        given = StartRun(run.pk, shape.agent, heartbeat_seconds=HEARTBEAT_SECONDS)
        await self.client.start_workflow(WORKFLOW, given, id=run.pk, task_queue=QUEUE)
        return run

    async def asked(self, run: Run) -> list[Approval]:
        """Return what the run waits for, once it waits for all of it; nothing once it is closed."""

        def look() -> tuple[bool, list[Approval]]:
            self.workers.tend()
            now = Run.objects.get(pk=run.pk)
            pending = list(Approval.objects.filter(run_id=run.pk, status="pending").order_by("id"))
            return now.status not in Run.OPEN or (now.status == "waiting" and bool(pending)), pending

        ready: list[Approval] = []

        def is_ready() -> bool:
            is_it, ready[:] = look()
            return is_it

        await until(is_ready)
        return ready

    async def tell(self, approval: Approval) -> None:
        """Wake the workflow as the relay does."""
        decided = {"approval_id": approval.pk, "decision_id": f"told-{approval.pk}"}
        await self.client.get_workflow_handle(approval.run_id).signal(DECIDED, decided)

    async def play(self, shape: Shape, verdict: str, killed_at: str = "") -> None:
        """Take a run to its end, with this verdict wherever it is allowed, and check the end."""
        run = await self.start(shape)
        if killed_at:
            await self.asked(run)
            (session_postgres.HOME / "faults" / f"{killed_at}@{run.pk}").write_text("kill")
        while asked := await self.asked(run):
            for approval in asked:
                await in_database(settle, shape, approval, verdict)
            for approval in asked:
                await self.tell(approval)
        assert not killed_at or (session_postgres.HOME / "faults" / f"{killed_at}@{run.pk}.fired").exists()
        await in_database(check_end, run, shape.ends[verdict])


def settle(shape: Shape, approval: Approval, verdict: str) -> None:
    if verdict == "expired":
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE approvals_approval SET due_at = signalbox_now() - interval '1 hour', steps_climbed = 0,"
                " ladder = jsonb_build_array("
                "jsonb_build_object('step', 'expire', 'at', signalbox_now() - interval '1 hour'))"
                " WHERE id = %s",
                [approval.pk],
            )
        climb_overdue()
        return
    said = verdict if verdict in approval.verdicts else "approve"
    give(
        approval,
        said,
        edited=dict(shape.edited) if said == "edit" else None,
        answer=shape.answer if said == "respond" else None,
    )


def check_end(run: Run, end: End) -> None:
    run.refresh_from_db()
    where = f"{run.pk}: {run.status} {run.error}"
    assert run.status == ("failed" if end.fails else "finished"), where
    if end.fails:
        assert (run.error or {})["kind"] == end.fails, where
    values = checkpoint_of(run.pk, run.checkpoint_id).values
    text = json.dumps([values, run.result], default=str)
    for held in end.holds:
        assert held in text, f"{where}: {held} is not in {text}"
    assert done_for(run.pk) == set(end.done), where


def on_stage(temporal: Temporal, workers: Workers, *plays: tuple[Shape, str, str]) -> None:
    async def scene() -> None:
        for person in ("alice", "bob"):
            await in_database(reviewer, person)  # before several runs ask for them at once
        client = await Client.connect(temporal.address, namespace=temporal.namespace)
        stage = Stage(client, workers)
        await asyncio.gather(*(stage.play(*play) for play in plays))

    go(scene())
    connections.close_all()


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_ends_as_people_decide(name: str, temporal: Temporal, workers: Workers) -> None:
    shape = SHAPES[name]
    on_stage(temporal, workers, *((shape, verdict, "") for verdict in shape.ends))
    asked = {(one.kind, *sorted(one.verdicts)) for one in Approval.objects.all()}
    kind, said = shapes_of_the_page()[name]
    assert {one[0] for one in asked} == {shape.kind}
    assert (kind, said.split(", ")) == (KINDS[shape.kind], sorted({verdict for one in asked for verdict in one[1:]}))


#: in the words of docs/agents.md
KINDS = {"action": "the call of a tool", "question": "a question", "go_on": "“go on?”"}


def test_a_worker_that_is_killed_loses_no_decision_of_a_foreign_graph(
    how_many_examples: int, temporal: Temporal, workers: Workers
) -> None:
    """Kill at each point, in two shapes; in every one where a thousand examples are asked for."""
    for name in SHAPES if how_many_examples >= EVERY_SHAPE else STRUCK:
        shape = SHAPES[name]
        verdict = next(iter(shape.ends))
        for point in KILLED_AT:  # one after the other: a kill hits the others too, which may then never reach theirs
            on_stage(temporal, workers, (shape, verdict, point))


def test_the_page_names_every_shape() -> None:
    assert shapes_of_the_page().keys() == SHAPES.keys()
