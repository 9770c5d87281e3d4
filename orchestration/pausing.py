"""How a graph stands between two calls, and whether the code can go on from there.

A graph that finds nothing to do ends, and its end looks like success: a node that was renamed, an answer that no task
takes, values that are gone. So before each call the newest checkpoint is held against the code, and whatever the code
cannot take up is an error of its own.

Facts this relies on (langgraph 1.2.22, covered by tests): a checkpoint names the nodes that come next by channels
`branch:to:<node>` and `join:<nodes>:<node>`, and Sends by node in `__pregel_tasks`; a task's id is made from its
checkpoint, its node and what triggers it, so an answer lands only where the code still makes the task that asked; a
channel of state that has a version has a value; the call of an `@task`, and the run of a node's `error_handler`, are
tasks that write like the others and that no snapshot lists.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import Error as DatabaseAway

from orchestration.errors import AgentCodeChanged, CheckpointsGone
from orchestration.stops import PREFIX, Stop

_BRANCH: Final = "branch:to:"
_JOIN: Final = "join:"
SENDS: Final = "__pregel_tasks"
_INTERRUPT: Final = "__interrupt__"
_RESUME: Final = "__resume__"
_CHECKPOINTER: Final = "__pregel_checkpointer"
NO_END: Final = (_INTERRUPT, _RESUME, "__error__")  # writes of a task that has not ended well
_HANDLED: Final = "__error_source_node__"  # written by a task that failed where its node has an error handler
_HANDLER: Final = "error handler"  # the same whichever it is: which task is which one's cannot be told
_NOBODY: Final = "00000000-0000-0000-0000-000000000000"  # the task of what was written from outside
#: channels of state that keep a value for good once they have one
_LASTING: Final = ("LastValue", "BinaryOperatorAggregate")
_NAMED_AT_MOST = 5


@dataclass
class Stand:
    """How a thread's newest checkpoint stands under the present code, graphs inside the graph included.

    Inner nodes and state keys are written "outer/inner".
    """

    checkpoint_id: str = ""  # "" when there is none
    values: dict[str, Any] = field(default_factory=dict)
    interrupts: tuple[Any, ...] = ()  # LangGraph's, not answered yet, as the checkpoint holds them
    next: list[str] = field(default_factory=list)  # nodes that are still to run
    asked_in: dict[str, str] = field(default_factory=dict)  # pending interrupt id -> the node whose task waits for it
    written: set[str] = field(default_factory=set)  # interrupt ids that the newest checkpoint's writes hold
    has_answers: bool = False  # some task of the newest checkpoint has an answer
    lacking: list[str] = field(default_factory=list)  # what the checkpoint names and the code has not
    lost: list[str] = field(default_factory=list)  # state keys whose values are gone
    stranded: list[str] = field(default_factory=list)  # interrupt ids of tasks that the code does not make any more
    #: pending interrupt id -> how the graph stands that asked it: the graph itself, or one inside it
    asked_by: dict[str, Any] = field(default_factory=dict)
    stopped_at: list[str] = field(default_factory=list)  # checkpoints of graphs that stand still by their compilation
    stopped_before: list[str] = field(default_factory=list)  # nodes that come next there

    @property
    def pending(self) -> set[str]:
        return {interrupt.id for interrupt in self.interrupts}

    @property
    def stop(self) -> Stop | None:
        """Return the stop at which the graph stands still; its id is another one at each checkpoint."""
        if not self.stopped_at:
            return None
        digest = hashlib.sha256("\n".join(sorted(self.stopped_at)).encode()).hexdigest()[:32]
        return Stop(f"{PREFIX}{digest}", tuple(sorted(set(self.stopped_before))))

    @property
    def asked(self) -> tuple[Any, ...]:
        """Return everything that waits for people: interrupts, and the stop."""
        return (*self.interrupts, *([self.stop] if self.stop else ()))


async def stand_of(graph: Any, saver: Any, thread_id: str) -> Stand:
    """Read how the thread stands. Raises CheckpointsGone when what is kept cannot be read."""
    config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    head = await _read(saver, config)
    if head is None:
        return Stand()
    snapshot = await graph.aget_state(config, subgraphs=True)
    stand = Stand(
        checkpoint_id=str(head.checkpoint["id"]),
        values=snapshot.values if isinstance(snapshot.values, dict) else {},
        interrupts=tuple(snapshot.interrupts),
        written={one.id for _, one in _interrupts_of(head)},
        has_answers=any(channel == _RESUME for _, channel, _ in head.pending_writes or []),
    )
    await _look(stand, graph, saver, snapshot, head, "")
    return stand


async def _read(saver: Any, config: dict[str, Any]) -> Any:
    """Return the newest checkpoint of a namespace, `None` when there is none."""
    try:
        return await saver.aget_tuple(config)
    except (DatabaseAway, OSError):
        raise
    except Exception as exc:  # whatever a serialiser makes of bytes that are not its own
        raise CheckpointsGone(f"Its checkpoints cannot be read any more ({type(exc).__name__}).") from exc


async def _look(stand: Stand, graph: Any, saver: Any, snapshot: Any, head: Any, path: str) -> None:
    """Add to the stand what one graph, and those inside it, have of it."""
    stand.lacking += _lacking(graph, head, path)
    stand.lost += _lost(graph, head, path)
    handled, strangers = _handled(graph, snapshot, head), _strangers(snapshot, head)
    if handled:
        over = {interrupt.id for task in snapshot.tasks if task.id in handled for interrupt in task.interrupts}
        asked = [interrupt for interrupts in strangers.values() for interrupt in interrupts]
        told = [one for one in stand.interrupts if one.id not in over]
        stand.interrupts = (*told, *(one for one in asked if one.id not in stand.pending))
        stand.asked_in |= {interrupt.id: f"{path}{_HANDLER}" for interrupt in asked}
        stand.asked_by |= {interrupt.id: (graph, snapshot) for interrupt in asked}
    elif not _may_be_calls(snapshot, strangers):
        stand.stranded += [interrupts[0].id if interrupts else "" for interrupts in strangers.values()]
    before = await _stops(graph, saver, snapshot, head)
    if before:
        stand.stopped_at.append(f"{path}@{head.checkpoint['id']}")
        stand.stopped_before += [f"{path}{node}" for node in before]
    inner_graphs = dict(graph.get_subgraphs())
    for task in snapshot.tasks:
        if task.name not in snapshot.next:
            continue
        where, reached = f"{path}{task.name}", len(stand.next)
        if task.id in handled:
            stand.next.append(where)
            continue
        inside = None
        if task.name in inner_graphs and hasattr(task.state, "tasks"):
            inside = await _read(saver, task.state.config)
        if inside is None:
            # A graph in the node's place cannot have asked without a checkpoint of its own: a function had.
            is_graph = hasattr(graph.nodes[task.name].bound, "aget_state")
            stand.asked_in |= {} if is_graph else {interrupt.id: where for interrupt in task.interrupts}
            stand.asked_by |= {interrupt.id: (graph, snapshot) for interrupt in task.interrupts}
        else:
            await _look(stand, inner_graphs[task.name], saver, task.state, inside, f"{where}/")
            if inside.metadata.get("source") == "update":  # it asks anew; what it had asked still stands further out
                stale = {interrupt.id for interrupt in task.interrupts} - stand.asked_by.keys()
                stand.interrupts = tuple(one for one in stand.interrupts if one.id not in stale)
            elif not task.state.next:  # the graph inside has ended, and the node that called it asks by itself
                own = [interrupt for interrupt in task.interrupts if interrupt.id not in stand.asked_by]
                stand.asked_in |= {interrupt.id: where for interrupt in own}
                stand.asked_by |= {interrupt.id: (graph, snapshot) for interrupt in own}
        if len(stand.next) == reached:
            stand.next.append(where)


async def _stops(graph: Any, saver: Any, snapshot: Any, head: Any) -> list[str]:
    """Return the nodes before which the graph stands still by its compilation, [] where it would go on by itself.

    A graph that stopped and one that died just before the stop are the same: both would run through it when they are
    called again. A graph that was called again has marked the checkpoint as passed.
    """
    before, after = _named_stops(graph.interrupt_before_nodes), _named_stops(graph.interrupt_after_nodes)
    if not snapshot.next or not (before or after):
        return []
    ended = {task for task, channel, _ in head.pending_writes or [] if channel not in NO_END}
    begun = {task for task, channel, _ in head.pending_writes or [] if task != _NOBODY}
    if ended or begun:  # the step after the stop is under way
        return []
    coming = [task.name for task in snapshot.tasks if task.name in snapshot.next]
    if ("*" in before) or any(node in before for node in coming):
        return coming if "*" in before else [node for node in coming if node in before]
    if after and head.parent_config:
        told = head.parent_config["configurable"] | {_CHECKPOINTER: saver}  # a graph inside another has none of its own
        ran = (await graph.aget_state({**head.parent_config, "configurable": told})).next
        if ("*" in after and ran) or any(node in after for node in ran):
            return coming
    return []


def _named_stops(stops: Any) -> set[str]:
    return {stops} if isinstance(stops, str) else set(stops or ())


def _strangers(snapshot: Any, head: Any) -> dict[str, list[Any]]:
    """Return the tasks that wait and that the snapshot does not list, by id, each with the interrupts it wrote."""
    writes = head.pending_writes or []
    waiting = {task for task, channel, _ in writes if channel in (_INTERRUPT, _RESUME)}
    ended = {task for task, channel, _ in writes if channel not in NO_END}
    found: dict[str, list[Any]] = {
        task: [] for task in sorted(waiting - ended - {task.id for task in snapshot.tasks} - {_NOBODY})
    }
    for task, interrupt in _interrupts_of(head):
        if task in found:
            found[task].append(interrupt)
    return found


def _may_be_calls(snapshot: Any, strangers: dict[str, list[Any]]) -> bool:
    """Return whether the strangers may be calls of an `@task` by tasks that the code still makes.

    Whoever made the call tells what it asks; of several that ask at once only the first; where it failed, none.
    """
    told = {interrupt.id for task in snapshot.tasks for interrupt in task.interrupts}
    has_told = any(interrupt.id in told for interrupts in strangers.values() for interrupt in interrupts)
    return has_told or any(task.error is not None for task in snapshot.tasks)


def _handled(graph: Any, snapshot: Any, head: Any) -> set[str]:
    """Return the tasks that failed and in whose place an error handler runs: nothing of them runs any more."""
    failed = {task for task, channel, _ in head.pending_writes or [] if channel == _HANDLED}
    return {task.id for task in snapshot.tasks if task.id in failed and graph.nodes[task.name].error_handler_node}


def _lacking(graph: Any, head: Any, path: str) -> list[str]:
    """Return what the checkpoint and its writes name that the graph has not, as words."""
    writes = [(channel, value) for _, channel, value in head.pending_writes or []]
    values = dict(head.checkpoint.get("channel_values", {}))
    sends = [*(values.get(SENDS) or []), *(value for channel, value in writes if channel == SENDS)]
    named = [*values.items(), *writes]
    found = [_words_for(name, path) for name, value in named if _is_lacking(graph, name, value)]
    found += [f"the node “{path}{send.node}”" for send in sends if getattr(send, "node", "") not in graph.nodes]
    return list(dict.fromkeys(found))


def _is_lacking(graph: Any, name: str, value: Any) -> bool:
    if name.startswith("__") or name in graph.channels:
        return False
    return name.startswith((_BRANCH, _JOIN)) or value not in (None, "", [], {})


def _words_for(channel: str, path: str) -> str:
    if channel.startswith(_BRANCH):
        return f"the node “{path}{channel.removeprefix(_BRANCH)}”"
    if channel.startswith(_JOIN):
        before, _, node = channel.removeprefix(_JOIN).rpartition(":")
        return f"the node “{path}{node}” after {before.replace('+', ' and ')}"
    return f"the state key “{path}{channel}”"


def _lost(graph: Any, head: Any, path: str) -> list[str]:
    """Return the state keys that have had a value, and have none in what is kept."""
    values = head.checkpoint.get("channel_values", {})
    return [
        f"{path}{name}"
        for name in head.checkpoint.get("channel_versions", {})
        if name not in values and type(graph.channels.get(name)).__name__ in _LASTING and not name.startswith("__")
    ]


def _interrupts_of(head: Any) -> list[tuple[str, Any]]:
    """Return the interrupts that a checkpoint's writes hold, each with its task's id."""
    found: list[tuple[str, Any]] = []
    for task, channel, value in head.pending_writes or []:
        if channel == _INTERRUPT:
            found += [(task, one) for one in (value if isinstance(value, list | tuple) else [value])]
    return found


def code_of(graph: Any) -> dict[str, Any]:
    """Return the graph's shape: {"nodes", "edges", "keys", "stops", "digest"}, graphs inside it included."""
    nodes: set[str] = set()
    edges: set[str] = set()
    keys: set[str] = set()
    stops: set[str] = set()
    for name, one in [("", graph), *graph.get_subgraphs(recurse=True)]:
        path = f"{name.replace('|', '/')}/" if name else ""
        nodes |= {f"{path}{node}" for node in one.nodes if not node.startswith("__")}
        keys |= {f"{path}{key}" for key in one.channels if not key.startswith(("__", _BRANCH, _JOIN))}
        edges |= {f"{path}{edge}" for edge in _edges(one)}
        for when, stop in (("before", one.interrupt_before_nodes), ("after", one.interrupt_after_nodes)):
            stops |= {f"{when} {path}{node}" for node in ([stop] if isinstance(stop, str) else stop)}
    shape = {"nodes": sorted(nodes), "edges": sorted(edges), "keys": sorted(keys), "stops": sorted(stops)}
    return {**shape, "digest": hashlib.sha256(json.dumps(shape).encode()).hexdigest()}


def _edges(graph: Any) -> set[str]:
    builder = getattr(graph, "builder", None)
    if builder is None:  # not made from a StateGraph: what starts each node
        return {f"{trigger} to {name}" for name, node in graph.nodes.items() for trigger in node.triggers}
    found = {f"{before} to {after}" for before, after in builder.edges}
    found |= {f"{' and '.join(sorted(before))} to {after}" for before, after in builder.waiting_edges}
    for before, branches in builder.branches.items():
        for branch in branches.values():
            found |= {f"{before} to {after}, perhaps" for after in (branch.ends or {}).values()}
    return found


_WORDS: Final = {"nodes": "node", "edges": "edge", "keys": "state key", "stops": "stop"}


def changes_between(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words how the code's shape has changed, "" when it has not."""
    if not before or before.get("digest") == now["digest"]:
        return ""
    said: list[str] = []
    for kind, word in _WORDS.items():
        old, new = set(before.get(kind, [])), set(now[kind])
        said += [
            f"{word} {verb}: {_named(names)}" for verb, names in (("gone", old - new), ("new", new - old)) if names
        ]
    return "; ".join(said)


def _named(names: set[str]) -> str:
    shown = sorted(names)[:_NAMED_AT_MOST]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


@dataclass(frozen=True)
class Kept:
    """What our rows say of the thread: held against what the checkpoints say."""

    must_be_there: bool  # the run has paused before, or this is not its first turn
    checkpoint_id: str = ""  # of the newest pause
    asked_in: dict[str, str] = field(default_factory=dict)  # at that pause: interrupt id -> node
    answers_at: dict[str, str] = field(default_factory=dict)  # interrupt id to be answered -> checkpoint that asked it


def check(stand: Stand, kept: Kept, changed: str) -> None:
    """Check that a call of the graph goes on from where the run stands. `changed`: how the code has changed.

    Raises CheckpointsGone when what the run had reached is not there any more: its first input would begin it again and
    do things twice. Raises AgentCodeChanged when the code has no place for what is there.
    """
    if kept.must_be_there and not stand.checkpoint_id:
        raise CheckpointsGone("Its checkpoints are gone: none is left.")
    if stand.checkpoint_id < kept.checkpoint_id:
        raise CheckpointsGone(
            "Its newest checkpoints are gone: what is left is older than what the run had reached when it paused."
        )
    if stand.lacking:
        raise AgentCodeChanged(f"The agent's code changed: it has not got {' and '.join(stand.lacking)} any more.")
    if stand.lost:
        names = ", ".join(f"“{name}”" for name in stand.lost[:_NAMED_AT_MOST])
        raise CheckpointsGone(f"Its checkpoints are gone: values that it had kept are missing ({names}).")
    is_asked_here = stand.checkpoint_id in kept.answers_at.values()
    if is_asked_here and not stand.written and not stand.has_answers:
        raise CheckpointsGone("Its checkpoints are gone: what it had asked is missing, so an answer has no place.")
    for interrupt in [*stand.stranded, *_moved(stand, kept)]:
        before = kept.asked_in.get(interrupt)
        where = f"the node “{before}”, which waits for the answer," if before else "the node that waits for the answer"
        said = f" ({changed})" if changed else ""
        raise AgentCodeChanged(f"The agent's code changed: {where} cannot take it any more{said}.")


def _moved(stand: Stand, kept: Kept) -> list[str]:
    """Return the pending interrupts that no node waits for any more, or another one than had asked."""
    return [
        interrupt
        for interrupt in sorted(stand.pending)
        if (now := stand.asked_in.get(interrupt)) is None or kept.asked_in.get(interrupt, now) != now
    ]
