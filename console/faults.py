"""Places where a drill may strike. They do nothing unless SIGNALBOX_FAULTS is set, which only a drill does.

A drill writes `<SIGNALBOX_HOME>/faults/<point>`, or `<point>@<subject>` for one run or refresh only, holding `kill`
or `freeze`. The first process that reaches the point takes the file away, leaves `<name>.fired` with the action and
its pid, and is killed or stopped there. No Django here: flows and agents use it too.

The points: `turn.before_graph`, `turn.after_graph` (the graph has paused or ended, our rows do not say so yet),
`turn.before_report` (they do, Temporal does not know), `effect.before_call`, `effect.after_call` (the ledger does not
know), `turn.before_ask_again` (it is noted that the graph held another call than was approved, the graph does not ask
anew yet), `turn.after_ask_again` (it does), `turn.after_place` (the thread of a run that was set back is, too),
`relay.after_restart` (its workflow is started anew, our rows do not say so yet); their subject is the run's id.
`fork.after_place`, as `turn.after_place`, with the id of the run that was forked. `agent.proposed`, in the drill's own
agent (nobody else knows its answer yet), with the order's id.

Of an answer to a thread on an agent server, with the approvals' run id: `thread.before_answer` (our row says that it is
given, the server has not heard of it), `thread.after_answer` (the server has it, nobody here knows),
`thread.after_note` (our row says so, the outbox does not).

Of a refresh, in the order of its life; the subject of `dispatch.after_send` and `flow.at_start` is its key, of all
others its id: `dispatch.after_send` (Prefect has the flow run, our row does not say so yet), `flow.at_start`,
`flow.after_claim`, `flow.during_load`, `flow.before_embed`, `flow.after_embed`, `flow.before_publish`,
`flow.in_publish` (the dataset's lock is held, nothing is written), `flow.in_copy` (half of the rows are on their
way), `flow.before_commit`, `flow.after_publish` (committed, the flow does not know), `flow.before_end` (the flow knows,
Prefect does not), `flow.before_fail` (it failed, our row does not say so yet), `watch.before_restart` (its run is
recorded as crashed and not yet started again).

Of a search index, with the name of its table: `index.before_build`, `index.during_build`, `index.before_check`,
`index.before_swap`, `index.before_drop`.
"""

from __future__ import annotations

import os
import signal

from console.environment import environment

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


#: what this process works on, for a process that works on one thing only: a flow run's
_about: list[str] = []


def about(subject: str) -> None:
    """Let points that name no subject be reached for this one from here on."""
    _about[:] = [subject]


def reach(point: str, subject: str = "") -> None:
    """Note that the code has come to this point; never returns when a drill has armed it with `kill`."""
    if not environment().faults:
        return
    subject = subject or "".join(_about)
    folder = environment().home / "faults"
    for name in (f"{point}@{subject}", point):
        taken = folder / f"{name}.taken"
        try:
            (folder / name).rename(taken)  # exactly one process gets to fire
        except FileNotFoundError:
            continue
        action = taken.read_text().strip()
        taken.write_text(f"{action} {os.getpid()}")
        taken.rename(folder / f"{name}.fired")
        os.kill(os.getpid(), _SIGNALS[action])
