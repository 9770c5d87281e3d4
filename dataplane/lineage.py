"""What a version was made from, and what was made with it: sources, flow runs, versions, agents, runs, requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import Q
from django.urls import reverse

from console import ports
from console.ports import Use
from dataplane.models import DatasetVersion

DEEPEST: Final = 6  # versions made from versions
MOST_ORIGINS: Final = 200  # nodes that it was made from
MOST_EDGES: Final = 1000  # between those
MOST_USES: Final = 50


@dataclass(frozen=True)
class LineageNode:
    """One thing of the drawing; `id` is its name among them."""

    id: str
    kind: str  # source, flow_run, version, agent, run or request
    title: str
    url: str = ""
    column: int = 0  # 0 is the version that was asked about; to the left what it was made from

    @property
    def kind_words(self) -> str:
        return self.kind.replace("_", " ")


@dataclass
class Lineage:
    """Nodes by their id, in the order they were found, and edges from what was used to what was made."""

    nodes: dict[str, LineageNode] = field(default_factory=dict)
    edges: dict[tuple[str, str], None] = field(default_factory=dict)  # in order; the values say nothing
    is_cut: bool = False  # there was more than is kept here

    def add(self, node: LineageNode, *, before: str = "", after: str = "") -> None:
        """Add a node and the edge to what it went into (`before`) or came from (`after`)."""
        self.nodes.setdefault(node.id, node)
        edge = (node.id, before) if before else (after, node.id)
        if all(edge):
            self.edges[edge] = None

    def add_origin(self, node: LineageNode, *, before: str) -> bool:
        """Add a node that something was made from, while there is room; return whether it is a new one."""
        is_new = node.id not in self.nodes
        if len(self.edges) >= MOST_EDGES or (is_new and len(self.nodes) >= MOST_ORIGINS):
            self.is_cut = True
            return False
        self.add(node, before=before)
        return is_new

    @property
    def columns(self) -> list[tuple[str, list[LineageNode]]]:
        """The nodes for the page, from sources to requests: heading and nodes of each column."""
        by_column: dict[int, list[LineageNode]] = {}
        for node in self.nodes.values():
            by_column.setdefault(node.column, []).append(node)
        return [(_heading(column), by_column[column]) for column in sorted(by_column)]


_HEADINGS: Final = {0: "This version", 1: "Read or used by", 2: "Runs", 3: "Requests"}


def _heading(column: int) -> str:
    """Return the column's name, no two alike: to the left each step back has what made a version, and from what."""
    if column in _HEADINGS:
        return _HEADINGS[column]
    steps, is_made_by = (1 - column) // 2, column % 2
    return ("Made by" if is_made_by else "Made from") + (f", {steps} steps back" if steps > 1 else "")


def of(version: DatasetVersion) -> Lineage:
    """Return what is known of the version's origin and use. At most one query for each level of origins, and three."""
    found = Lineage()
    dataset, number = version.dataset_id, version.version
    own = _version_id(dataset, number)
    found.add(_node(dataset, number, 0))
    _upstream(found, version)
    named = [{"dataset": dataset, "version": number}]
    made_from = DatasetVersion.objects.filter(inputs__contains=named).order_by("-published_at")[: MOST_USES + 1]
    uses = ports.dataset_readers().uses_of(dataset, number, MOST_USES + 1)
    found.is_cut |= max(len(made_from), len(uses)) > MOST_USES
    for made in made_from[:MOST_USES]:
        found.add(_node(made.dataset_id, made.version, 1), after=own)
    for agent in ports.dataset_readers().agents_reading(dataset):
        found.add(LineageNode(f"agent:{agent}", "agent", agent, column=1), after=own)
    for use in uses[:MOST_USES]:
        _used(found, own, use)
    return found


def _upstream(found: Lineage, version: DatasetVersion) -> None:
    """Add what the version was made from, level by level: each version once, where it is nearest."""
    level = [version]
    for depth in range(DEEPEST + 1):
        column = -1 - 2 * depth
        wanted = [wish for one in level for wish in _origins(found, one, column)]
        if not wanted:
            return
        if depth == DEEPEST:
            found.is_cut = True
            return
        unknown = list(dict.fromkeys(key for key, _ in wanted if _version_id(*key) not in found.nodes))
        found.is_cut |= len(unknown) > MOST_ORIGINS
        there = _versions(unknown[:MOST_ORIGINS])
        level = []
        for key, into in wanted:
            node = _node(*key, column - 1)
            if (key in there or node.id in found.nodes) and found.add_origin(node, before=into):
                level.append(there[key])


def _origins(found: Lineage, version: DatasetVersion, column: int) -> list[tuple[tuple[str, int], str]]:
    """Add the flow run and the sources of the version; return the versions it names, and the node each goes into."""
    own = into = _version_id(version.dataset_id, version.version)
    if run := version.prefect_flow_run_id:
        url = reverse("dataplane:flow_run", args=[run])
        node = LineageNode(f"flow_run:{run}", "flow_run", f"flow run {run[:8]}", url, column)
        found.add_origin(node, before=own)
        into = node.id if node.id in found.nodes else own
    sources = [str(one["asset"]) for one in version.shown_inputs if "asset" in one]
    for source in sources:
        found.add_origin(LineageNode(f"source:{source}", "source", source, column=column - 1), before=into)
    if not version.inputs and not version.published_by and version.kind != "external":
        title = "the documents it was told to read" if version.kind == "passages" else "its flow's source"
        found.add_origin(LineageNode(f"source:{own}", "source", title, column=column - 1), before=into)
    return [((one["dataset"], one["version"]), into) for one in version.inputs if "asset" not in one]


def _versions(keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], DatasetVersion]:
    """Return those of the versions (dataset and number) that there are. One query."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for dataset, number in keys:
        numbers[dataset].append(number)
    wanted = Q()
    for dataset, of_dataset in numbers.items():
        wanted |= Q(dataset_id=dataset, version__in=of_dataset)
    return {(one.dataset_id, one.version): one for one in DatasetVersion.objects.filter(wanted)}


def _used(found: Lineage, own: str, use: Use) -> None:
    run = f"run:{use['run_id']}"
    agent = f"agent:{use['agent']}"
    found.add(LineageNode(agent, "agent", use["agent"], column=1), after=own)
    found.add(LineageNode(run, "run", f"{use['run_id']}, {use['status']}", use["url"], 2), after=agent)
    for request in use["requests"]:
        title = f"{request['title']}, {request['status']}"
        found.add(LineageNode(f"request:{request['id']}", "request", title, request["url"], 3), after=run)


def _version_id(dataset: str, number: int) -> str:
    return f"version:{dataset}:{number}"


def _node(dataset: str, number: int, column: int) -> LineageNode:
    url = reverse("dataplane:version", args=[dataset, number])
    return LineageNode(_version_id(dataset, number), "version", f"{dataset} version {number}", url, column)


def as_json(found: Lineage) -> dict[str, Any]:
    """Return the public shape."""
    return {
        "nodes": [
            {"id": one.id, "kind": one.kind, "title": one.title, "url": one.url or None} for one in found.nodes.values()
        ],
        "edges": [{"from": before, "to": after} for before, after in found.edges],
        "is_cut": found.is_cut,
    }
