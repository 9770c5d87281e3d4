"""Have a graph ask again what it had asked: under new ids, and as its state is now.

It helps where an answer cannot be given: the state holds another call than was approved, what was approved may not be
done any more, or a graph saved an answer before it checked it and refuses every other one for ever.

The node that led to the step that asks leads to it once more, so that what it hands on is read from the state as it is
now; what has ended in that step keeps what it wrote. Where another step would come of that, or nobody can tell which
node it was, the step is made anew as it was. Internal to langgraph 1.2.22, and covered by tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from langgraph.errors import InvalidUpdateError
from langgraph.pregel._algo import task_path_str
from langgraph.pregel._checkpoint import create_checkpoint

from orchestration.errors import CannotAskAgain
from orchestration.pausing import NO_END, SENDS, Stand

_KEPT_BY_CHANGES: Final = "DeltaChannel"  # whose value is made of the writes at all checkpoints before
_HANDLED: Final = "__error_source_node__"  # written by a task that failed where its node has an error handler
_ANY: Final = {"checkpoint_id": None}  # the newest
_TWICE: Final = "Something of the step that asks would be done once more if the agent were made to ask again."
_Ended = Mapping[str, list[tuple[str, Any]]]  # a task's id -> what it wrote


async def ask_again(
    root: Any, stand: Stand, interrupt_ids: set[str] | None = None, acted: Collection[str] = ()
) -> None:
    """Drop the pending interrupts, and answers to them that were saved; the graph asks again at its next call.

    `root`: the outermost graph, whose saver those inside it take. `stand`: from `stand_of` with the saver that the
    graph holds. `interrupt_ids`: None is all of them. `acted`: interrupts of the step whose approved effect was begun.
    Whatever else waits in the same step is asked again too; a node
    of that step that has ended does not run once more. Raises CannotAskAgain where that cannot be: then nothing is
    changed.
    """
    asking: dict[str, tuple[Any, Any]] = {}
    for interrupt_id, (graph, snapshot) in stand.asked_by.items():
        if interrupt_ids is None or interrupt_id in interrupt_ids:
            asking[str(snapshot.config["configurable"].get("checkpoint_ns", ""))] = (graph, snapshot)
    if not asking:
        raise CannotAskAgain("The agent waits for no answer, so there is nothing that it could ask again.")
    if set(acted) - stand.written:  # of a node that asks once more since: it would do the first again
        raise CannotAskAgain(_TWICE)
    saver = root.checkpointer
    found = [(graph, snapshot, await saver.aget_tuple(_newest(snapshot))) for graph, snapshot in asking.values()]
    # All of it or nothing: an attempt that dies in between would do again what has ended.
    async with saver.conn.transaction():
        for graph, snapshot, head in found:
            await _check(saver, graph, snapshot, head)
            if await _step_back(root, snapshot) and await _keep_what_has_ended(root, snapshot, head):
                continue
            if _is_kept_by_changes(graph):
                names = " and ".join(f"“{node}”" for node in snapshot.next)
                raise CannotAskAgain(f"Which step led to {names} is not clear from what is kept.")
            await _copy(root, head)
            await _keep_what_has_ended(root, snapshot, head)


def _newest(snapshot: Any) -> dict[str, Any]:
    """Return where the newest checkpoint of the snapshot's graph is."""
    where = {**snapshot.config["configurable"]}
    where.pop("checkpoint_id", None)
    return {"configurable": where}


def _is_kept_by_changes(graph: Any) -> bool:
    return any(type(channel).__name__ == _KEPT_BY_CHANGES for channel in graph.channels.values())


def _ended(head: Any) -> _Ended:
    found: dict[str, list[tuple[str, Any]]] = {}
    for task, channel, value in head.pending_writes or []:
        if channel not in (*NO_END, _HANDLED):
            found.setdefault(task, []).append((channel, value))
    return found


async def _check(saver: Any, graph: Any, snapshot: Any, head: Any) -> None:
    """Refuse where something would be done once more.

    What has ended in the call of an `@task`, or beside state that is kept by its changes; and what a graph has done
    that a waiting node has called, or that stands in its place: it would begin anew, for it is found by its task's id.
    """
    ended = set(_ended(head))
    if ended - {task.id for task in snapshot.tasks} or (ended and _is_kept_by_changes(graph)):
        raise CannotAskAgain(_TWICE)
    where = snapshot.config["configurable"]
    outer = str(where.get("checkpoint_ns", ""))
    for task in snapshot.tasks:
        inner = f"{outer}|{task.name}:{task.id}" if outer else f"{task.name}:{task.id}"
        if task.id not in ended and await saver.aget_tuple({"configurable": {**where, "checkpoint_ns": inner} | _ANY}):
            raise CannotAskAgain(_TWICE)


async def _step_back(root: Any, snapshot: Any) -> bool:
    """Let the node that led to the step lead to it once more; return whether it is clear which one that was."""
    try:
        await root.aupdate_state(_newest(snapshot), None)
    except InvalidUpdateError:
        return False
    return True


async def _copy(root: Any, head: Any) -> None:
    """Let a copy of the checkpoint be the newest: it makes the same tasks, under ids of their own."""
    metadata = head.metadata or {}
    step = metadata.get("step", 0)
    told = {"source": "update", "step": step, "parents": metadata.get("parents", {})}
    await root.checkpointer.aput(head.config, create_checkpoint(head.checkpoint, None, step), told, {})


async def _keep_what_has_ended(root: Any, snapshot: Any, head: Any) -> bool:
    """Give what has ended to the same tasks of the newest checkpoint; return False where it does not make them.

    `head`: the checkpoint that asked, `snapshot`: how it stood.
    """
    now = await root.checkpointer.aget_tuple(_newest(snapshot))
    anew = {(task.name, str(task.path)): task for task in (await root.aget_state(_newest(snapshot))).tasks}
    ended, kept = _ended(head), []
    for task in snapshot.tasks:
        twin = anew.get((task.name, str(task.path)))
        if twin is None or (task.id in ended and not _is_same(_sent(head, task), _sent(now, twin))):
            return False
        if task.id in ended:
            kept.append((ended[task.id], twin))
    for writes, twin in kept:
        await root.checkpointer.aput_writes(now.config, writes, twin.id, task_path_str(twin.path))
    return True


def _sent(head: Any, task: Any) -> Any:
    """Return what the task was begun with by a `Send`, None where it was not."""
    sends = head.checkpoint.get("channel_values", {}).get(SENDS) or []
    number = task.path[1] if len(task.path) > 1 else None
    return sends[number] if isinstance(number, int) and number < len(sends) else None


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two sends begin the same; LangChain's hold the whole state beside the call."""
    if one is None or other is None:
        return one is other
    calls = [send.arg.get("tool_call") if isinstance(send.arg, dict) else None for send in (one, other)]
    return bool(one.node == other.node and (one.arg == other.arg or (calls[0] is not None and calls[0] == calls[1])))
