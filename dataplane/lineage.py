"""What a version was made from, and what was made with it: sources, flow runs, versions, agents, runs, requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from django.urls import reverse

from console import ports
from console.ports import Use
from dataplane.models import DatasetVersion

DEEPEST: Final = 6  # versions made from versions
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
    edges: list[tuple[str, str]] = field(default_factory=list)

    def add(self, node: LineageNode, *, before: str = "", after: str = "") -> None:
        """Add a node and the edge to what it went into (`before`) or came from (`after`)."""
        self.nodes.setdefault(node.id, node)
        edge = (node.id, before) if before else (after, node.id)
        if all(edge) and edge not in self.edges:
            self.edges.append(edge)

    @property
    def columns(self) -> list[tuple[str, list[LineageNode]]]:
        """The nodes for the page, from sources to requests: heading and nodes of each column."""
        by_column: dict[int, list[LineageNode]] = {}
        for node in self.nodes.values():
            by_column.setdefault(node.column, []).append(node)
        return [(_HEADINGS.get(column, "Made from"), by_column[column]) for column in sorted(by_column)]


_HEADINGS: Final = {0: "This version", 1: "Read or used by", 2: "Runs", 3: "Requests", -1: "Made by"}


def of(version: DatasetVersion) -> Lineage:
    """Return what is known of the version's origin and use."""
    found = Lineage()
    own = _version_id(version)
    found.add(_node(version, 0))
    _upstream(found, version, own, -1, DEEPEST)
    for made in _made_from(version):
        found.add(_node(made, 1), after=own)
    for agent in ports.dataset_readers().agents_reading(version.dataset_id):
        found.add(LineageNode(f"agent:{agent}", "agent", agent, column=1), after=own)
    for use in ports.dataset_readers().uses_of(version.dataset_id, version.version, MOST_USES):
        _used(found, own, use)
    return found


def _upstream(found: Lineage, version: DatasetVersion, own: str, column: int, left: int) -> None:
    into = own
    if version.prefect_flow_run_id:
        into = f"flow_run:{version.prefect_flow_run_id}"
        url = reverse("dataplane:flow_run", args=[version.prefect_flow_run_id])
        found.add(LineageNode(into, "flow_run", f"flow run {version.prefect_flow_run_id[:8]}", url, column), before=own)
    for one in version.inputs:
        if "asset" in one:
            found.add(
                LineageNode(f"source:{one['asset']}", "source", str(one["asset"]), column=column - 1), before=into
            )
            continue
        earlier = DatasetVersion.objects.filter(dataset_id=one["dataset"], version=one["version"]).first()
        if earlier is not None and left:
            found.add(_node(earlier, column - 1), before=into)
            _upstream(found, earlier, _version_id(earlier), column - 2, left - 1)
    if not version.inputs and not version.published_by and version.kind != "external":
        title = "the documents it was told to read" if version.kind == "passages" else "its flow's source"
        found.add(LineageNode(f"source:{own}", "source", title, column=column - 1), before=into)


def _made_from(version: DatasetVersion) -> Iterator[DatasetVersion]:
    named = [{"dataset": version.dataset_id, "version": version.version}]
    yield from DatasetVersion.objects.filter(inputs__contains=named).order_by("-published_at")[:MOST_USES]


def _used(found: Lineage, own: str, use: Use) -> None:
    run = f"run:{use['run_id']}"
    agent = f"agent:{use['agent']}"
    found.add(LineageNode(agent, "agent", use["agent"], column=1), after=own)
    found.add(LineageNode(run, "run", f"{use['run_id']}, {use['status']}", use["url"], 2), after=agent)
    for request in use["requests"]:
        title = f"{request['title']}, {request['status']}"
        found.add(LineageNode(f"request:{request['id']}", "request", title, request["url"], 3), after=run)


def _version_id(version: DatasetVersion) -> str:
    return f"version:{version.dataset_id}:{version.version}"


def _node(version: DatasetVersion, column: int) -> LineageNode:
    url = reverse("dataplane:version", args=[version.dataset_id, version.version])
    return LineageNode(_version_id(version), "version", f"{version.dataset_id} version {version.version}", url, column)


def as_json(found: Lineage) -> dict[str, Any]:
    """Return the public shape."""
    return {
        "nodes": [
            {"id": one.id, "kind": one.kind, "title": one.title, "url": one.url or None} for one in found.nodes.values()
        ],
        "edges": [{"from": before, "to": after} for before, after in found.edges],
    }
