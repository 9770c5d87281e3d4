"""The graph of a run: its nodes and edges as the code had them, and the way that the run took through it.

The shape is what the worker kept with the run's newest pause; before the first one, what it kept with another run of
the same agent; without any, what the run's own steps show. The way is read from what the tasks have written: a node
that leads to another writes that node's channel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from django.db import connection

from orchestration import checkpoint_gateway
from orchestration.models import Run
from orchestration.state.values import read_value

START: Final = "__start__"
END: Final = "__end__"
_PULLED: Final = "~__pregel_pull, "
_MOST_SENDS: Final = 500
Stand = Literal["done", "current", "failed", "pending"]
Origin = Literal["run", "agent", "steps"]


@dataclass
class GraphShape:
    """Nodes and edges. `times`: how often each node has run; `taken`: how often each edge was gone."""

    nodes: list[str]
    edges: dict[tuple[str, str], bool]  # whether it is conditional
    origin: Origin
    times: dict[str, int] = field(default_factory=dict)
    taken: dict[tuple[str, str], int] = field(default_factory=dict)
    stands: dict[str, Stand] = field(default_factory=dict)


def shape_of(run: Run) -> GraphShape:
    """Return the run's graph with the way it took. Five queries, six before its first pause."""
    code, origin = _code(run)
    nodes, edges = _read(code)
    shape = GraphShape(nodes, edges, origin)
    shape.times, shape.taken = _way(run.pk)
    head = next(iter(checkpoint_gateway.checkpoints_of(run.pk, limit=1)), None)
    if shape.times and (not head or not head.next) and run.status == Run.Status.FINISHED and head:
        for node in head.node.split(", "):
            shape.taken[(node, END)] = 1
    for node in [*shape.times, *(one for edge in shape.taken for one in edge)]:
        if node not in shape.nodes:
            shape.nodes.append(node)
    for edge in shape.taken:
        shape.edges.setdefault(edge, True)
    shape.stands = _stands(run, shape, head)
    return shape


def _code(run: Run) -> tuple[dict[str, Any], Origin]:
    own = (run.pause or {}).get("code")
    if own:
        return dict(own), "run"
    others = Run.objects.filter(agent=run.agent, pause__isnull=False).order_by("-created_at", "-id")
    other = others.values_list("pause", flat=True).first()
    if other and other.get("code"):
        return dict(other["code"]), "agent"
    return {}, "steps"


def _read(code: dict[str, Any]) -> tuple[list[str], dict[tuple[str, str], bool]]:
    """Return nodes and edges of a kept shape, where an edge reads "a to b", "a and b to c" or "a to b, perhaps"."""
    nodes = [str(node) for node in code.get("nodes", []) if "/" not in str(node)]
    known = {*nodes, START, END}
    edges: dict[tuple[str, str], bool] = {}
    for text in code.get("edges", []):
        is_conditional = text.endswith(", perhaps")
        for before, after in _ends(text.removesuffix(", perhaps"), known):
            edges[(before, after)] = is_conditional and edges.get((before, after), True)
    used = [one for one in (START, END) if any(one in edge for edge in edges)]
    return [*(one for one in used if one == START), *nodes, *(one for one in used if one == END)], edges


def _ends(text: str, known: set[str]) -> list[tuple[str, str]]:
    """Return the edges that a text names; a name may itself hold " to " or " and ", so known names decide."""
    parts = text.split(" to ")
    for at in range(1, len(parts)):
        before, after = " to ".join(parts[:at]), " to ".join(parts[at:])
        if after not in known:
            continue
        if before in known:
            return [(before, after)]
        several = before.split(" and ")
        if all(one in known for one in several):
            return [(one, after) for one in several]
    return []


def _way(thread_id: str) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return how often each node ran, and each edge was gone. Two queries."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_path, channel, count(DISTINCT task_id) FROM agent.checkpoint_writes"
            " WHERE thread_id = %s AND checkpoint_ns = ''"
            " AND channel NOT IN ('__interrupt__', '__resume__', '__error__') GROUP BY task_path, channel",
            [thread_id],
        )
        rows = cursor.fetchall()
        cursor.execute(
            "SELECT task_path, type, blob FROM agent.checkpoint_writes"
            " WHERE thread_id = %s AND checkpoint_ns = '' AND channel = '__pregel_tasks' LIMIT %s",
            [thread_id, _MOST_SENDS],
        )
        sends = cursor.fetchall()
    times: dict[str, int] = {}
    taken: dict[tuple[str, str], int] = {}
    for path, channel, number in rows:
        if not path.startswith(_PULLED):
            continue
        node = path.removeprefix(_PULLED).split(", ")[0]
        times[node] = max(times.get(node, 0), number)
        if channel.startswith("branch:to:"):
            taken[(node, channel.removeprefix("branch:to:"))] = number
        elif channel.startswith("join:"):
            taken[(node, channel.rpartition(":")[2])] = number
    for path, kind, blob in sends:
        node = path.removeprefix(_PULLED).split(", ")[0]
        value = read_value(kind, blob)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and isinstance(one.get("node"), str):
                times[one["node"]] = times.get(one["node"], 0) + 1
                if path.startswith(_PULLED):
                    taken[(node, one["node"])] = taken.get((node, one["node"]), 0) + 1
    return times, taken


def _stands(run: Run, shape: GraphShape, head: Any) -> dict[str, Stand]:
    stands: dict[str, Stand] = dict.fromkeys(shape.times, "done")
    if shape.times:
        stands[START] = "done"
    if run.status == Run.Status.FINISHED:
        stands[END] = "done"
    is_open = run.status in Run.OPEN
    for node in head.next if head is not None and is_open else []:
        stands[node] = "current"
    for node in _failed(run, head, is_open):
        stands[node] = "failed"
    return stands


def _failed(run: Run, head: Any, is_open: bool) -> Iterable[str]:
    kept = (run.failure if is_open else run.error) or {}
    node = str(kept.get("node") or "").split("/")[0]
    if node:
        return [node]
    return head.next if head is not None and head.failed else []
