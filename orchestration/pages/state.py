"""The state of a run's graph: its steps and the graph itself, one step with its values, differences between two."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from console.fragments import page_or_fragment, part_of_page
from console.http import needs
from console.live.parts import is_a_part
from console.text.stored import asked_text
from orchestration import checkpoint_gateway, selectors
from orchestration.checkpoint_gateway import CheckpointLine, Opened
from orchestration.models import Run
from orchestration.state import drawing, tree
from orchestration.state.between import changes_of
from orchestration.state.conversation import Message, is_conversation, messages_of
from orchestration.state.drawing import Layout
from orchestration.state.secrets import hidden_of
from orchestration.state.shape import END, START, GraphShape, shape_of
from orchestration.state.tree import Node
from orchestration.timeline.steps import began_at, resumed_at

PAGE: Final = 50  # steps of a page
DRAWN: Final = 150  # nodes of a graph that is drawn unasked
_CHANGES: Final = 100  # of a difference, on a page
_SIDE: Final = 1_200  # characters of one side of a change


@dataclass(frozen=True)
class CheckpointStep:
    """One checkpoint in the list. `worked_at`: when its nodes began, after what they had waited for."""

    line: CheckpointLine
    worked_at: datetime | None

    @property
    def took(self) -> Any:
        return self.line.at - self.worked_at if self.worked_at is not None else None

    @property
    def waited(self) -> Any:
        """How long people were waited for before the step's nodes went on; `None` when nobody was asked."""
        began = self.line.began_at
        return self.worked_at - began if began and self.worked_at and self.worked_at > began else None


@dataclass(frozen=True)
class Drawn:
    """The graph as a picture and as a list."""

    shape: GraphShape
    layout: Layout | None  # `None` where it is not drawn unasked
    run: Run

    @property
    def nodes(self) -> list[tuple[str, str, str, int, str]]:
        """Name, label, stand, how often it ran, address of its steps."""
        return [self._node(name) for name in self.shape.nodes]

    def _node(self, name: str) -> tuple[str, str, str, int, str]:
        address = "" if name in (START, END) else _steps_of(self.run, node=name)
        times = self.shape.times.get(name, 0)
        return name, LABELS.get(name, name), self.shape.stands.get(name, "pending"), times, address

    @property
    def boxes(self) -> list[tuple[Any, str, int, str]]:
        assert self.layout is not None
        return [(box, *self._node(box.name)[2:]) for box in self.layout.boxes]

    @property
    def ways(self) -> list[tuple[str, bool, bool]]:
        """The path of each edge, whether it is conditional, and whether it was gone; those that were come last."""
        assert self.layout is not None
        found = [(way.path, self.shape.edges[way.edge], way.edge in self.shape.taken) for way in self.layout.ways]
        return sorted(found, key=lambda way: way[2])


LABELS: Final = {START: "start", END: "end"}


@is_a_part
@require_safe
@needs("see")
def state(request: HttpRequest, run_id: str) -> HttpResponse:
    """The steps of the graph, newest first, and the graph with the way that the run took."""
    found = selectors.run_for(request.user, run_id)
    asked = request.GET
    namespace, node = (asked_text(asked.get(name), 1000) for name in ("graph", "node"))
    before = asked_text(asked.get("before"), 100)
    lines = checkpoint_gateway.checkpoints_of(
        found.pk, before=before or "~", limit=PAGE + 1, namespace=namespace, node=node
    )
    resumed = resumed_at(found, lines)
    shown = lines[:PAGE]
    context = {
        "run": found,
        "steps": [CheckpointStep(line, began_at(line, resumed)) for line in shown],
        "count": checkpoint_gateway.count_of(found.pk) if not namespace else None,
        "namespace": namespace,
        "node": node,
        "here": _steps_of(found, graph=namespace, node=node, before=before),
        "older": _steps_of(found, graph=namespace, node=node, before=shown[-1].checkpoint_id) if lines[PAGE:] else "",
        "newest": _steps_of(found, graph=namespace, node=node) if before else "",
        "inner": [(one, _steps_of(found, graph=one.name)) for one in checkpoint_gateway.namespaces_of(found.pk)],
        "graph": _drawn(found, is_asked=asked.get("draw") == "1"),
        "draw": _steps_of(found, draw="1"),
    }
    return page_or_fragment(request, "orchestration/state.html", "orchestration/_state.html", context)


def _steps_of(run: Run, **asked: str) -> str:
    said = urlencode({name: value for name, value in asked.items() if value})
    return reverse("orchestration:state", args=[run.pk]) + (f"?{said}" if said else "")


def _drawn(run: Run, *, is_asked: bool) -> Drawn:
    shape = shape_of(run)
    is_drawn = bool(shape.nodes) and (is_asked or len(shape.nodes) <= DRAWN)
    return Drawn(shape, drawing.laid_out(shape.nodes, shape.edges, LABELS) if is_drawn else None, run)


@dataclass(frozen=True)
class Channel:
    """One key of the state: as a conversation where it is one, and as a tree."""

    name: str
    messages: list[Message]
    earlier: int  # messages that are not shown
    node: Node
    is_changed: bool


@dataclass(frozen=True)
class Task:
    """One task that began at a checkpoint: what it raised, asked, got and wrote."""

    node: str
    error: str
    trace: str  # of the run's own row, where it is of this very task
    asked: Node | None
    writes: Node | None


@require_safe
@needs("see")
def checkpoint(request: HttpRequest, run_id: str, checkpoint_id: str) -> HttpResponse:
    """One checkpoint with its values, read when somebody asks for it."""
    found = selectors.run_for(request.user, run_id)
    opened = checkpoint_gateway.checkpoint_of(found.pk, checkpoint_id)
    (line,) = checkpoint_gateway.checkpoints_of(
        found.pk, before=f"{checkpoint_id}~", limit=1, namespace=opened.namespace
    ) or (None,)
    hidden = hidden_of(found.agent)
    values = hidden.without(opened.values)
    changed = set(line.changed) if line is not None else set()
    context = {
        "run": found,
        "checkpoint_id": checkpoint_id,
        "opened": opened,
        "line": line,
        "channels": [_channel(name, value, name in changed) for name, value in sorted(values.items())],
        "tasks": [_task(found, task) for task in opened.tasks],
        "hidden_because": hidden.why,
        "metadata": tree.tree_of(opened.metadata, ("metadata",), "metadata"),
        "newer": checkpoint_gateway.newer_than(found.pk, opened.namespace, checkpoint_id),
    }
    return page_or_fragment(request, "orchestration/checkpoint.html", "orchestration/_checkpoint.html", context)


def _channel(name: str, value: Any, is_changed: bool) -> Channel:
    messages = messages_of(value) if is_conversation(value) else []
    earlier = len(value) - len(messages) if messages else 0
    return Channel(name, messages, earlier, tree.tree_of(value, ("values", name), name), is_changed)


def _task(run: Run, task: dict[str, Any]) -> Task:
    writes = hidden_of(run.agent).without(task["writes"])
    path = str(task["path"])
    node = path.removeprefix("~__pregel_pull, ").split(", ")[0] if path.startswith("~__pregel_pull") else ""
    error = str(writes.pop("__error__", "") or "")
    kept = (run.failure if run.status in Run.OPEN else run.error) or {}
    trace = str(kept.get("trace", "")) if error and str(kept.get("node", "")).split("/")[-1] == node else ""
    asked = {name: writes.pop(name) for name in ("__interrupt__", "__resume__") if name in writes}
    plain = {name: value for name, value in writes.items() if not name.startswith(("branch:to:", "__"))}
    at = ("tasks", str(task["id"]))
    return Task(
        node=node or "a task that was sent" if path else "from outside",
        error=error,
        trace=trace,
        asked=tree.tree_of(asked, at, "asked and answered") if asked else None,
        writes=tree.tree_of(plain, at, "written") if plain else None,
    )


@require_safe
@needs("see")
def value(request: HttpRequest, run_id: str, checkpoint_id: str) -> HttpResponse:
    """The rest of one value of a checkpoint, from `begin` on; `download=1`: the whole of it as a file."""
    found = selectors.run_for(request.user, run_id)
    opened = checkpoint_gateway.checkpoint_of(found.pk, checkpoint_id)
    path, begin = _path(request.GET.get("at", "")), request.GET.get("begin", "")
    hidden = hidden_of(found.agent)
    try:
        part = tree.at_path(_whole(opened, hidden), path)
    except LookupError as exc:
        raise Http404 from exc
    if request.GET.get("download") == "1":
        text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, indent=2)
        kind = "text/plain" if isinstance(part, str) else "application/json"
        response = HttpResponse(text, content_type=f"{kind}; charset=utf-8")
        ending = "txt" if isinstance(part, str) else "json"
        response["Content-Disposition"] = f'attachment; filename="value-of-{checkpoint_id}.{ending}"'
        return response
    at = int(begin) if begin.isascii() and begin.isdigit() and len(begin) < 10 else 0
    node = tree.tree_of(part, tuple(path), str(path[-1]) if path else "", begin=at)
    context = {"run": found, "checkpoint_id": checkpoint_id, "node": node}
    page = reverse("orchestration:checkpoint", args=[found.pk, checkpoint_id])
    return part_of_page(request, page, "orchestration/_value.html", lambda: context)


def _whole(opened: Opened, hidden: Any) -> dict[str, Any]:
    """Return all of a checkpoint that the trees of its page show, secrets hidden."""
    tasks = {}
    for task in opened.tasks:
        tasks[str(task["id"])] = hidden.without(task["writes"])
    return {"values": hidden.without(opened.values), "tasks": tasks, "metadata": opened.metadata}


def _path(text: str) -> list[Any]:
    try:
        found = json.loads(text[:5000])
    except (ValueError, RecursionError):
        raise Http404 from None
    if not isinstance(found, list):
        raise Http404
    return found


@require_safe
@needs("see")
def difference(request: HttpRequest, run_id: str, checkpoint_id: str) -> HttpResponse:
    """What changed from one checkpoint to another; from the one before it, when no other is named."""
    found = selectors.run_for(request.user, run_id)
    against, changes = changes_of(found, checkpoint_id, request.GET.get("against", "")[:100])
    lines = checkpoint_gateway.checkpoints_of(found.pk, limit=PAGE)
    shown = [(one, _side(one.before), _side(one.after)) for one in changes[:_CHANGES]]
    context = {
        "run": found,
        "checkpoint_id": checkpoint_id,
        "against": against,
        "changes": shown,
        "count": len(changes),
        "choices": [line for line in lines if line.checkpoint_id != checkpoint_id],
    }
    return page_or_fragment(request, "orchestration/difference.html", "orchestration/_difference.html", context)


def _side(value: Any) -> tuple[str, bool]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    return text[:_SIDE], len(text) > _SIDE
