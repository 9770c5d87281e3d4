"""Why an attempt of a turn failed: in a sentence, kept with the run, and whether trying again can help."""

from __future__ import annotations

import re
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from django.db import DatabaseError, DataError
from langgraph.errors import EmptyInputError, GraphDrained, GraphRecursionError, InvalidUpdateError
from psycopg import DataError as RefusedValue
from psycopg.errors import ProgramLimitExceeded
from pydantic import ValidationError
from temporalio import activity

from approvals.errors import ApprovalError
from dataplane.errors import DataplaneError
from orchestration import failing, services
from orchestration.agents.registry import UnknownAgent
from orchestration.contracts import Turn
from orchestration.errors import Fenced, GaveUp, OrchestrationError, RunClosed, TooManySteps
from orchestration.failing import Failed
from orchestration.models import Run
from orchestration.threads import in_database

OURS = (OrchestrationError, ApprovalError, DataplaneError, UnknownAgent)  # each says whether it is permanent
_IN_NODE = re.compile(r"During task with name '(.+?)' and id '")
_FRAMES_AT_MOST = 12

#: trying the same again cannot help: the agent's code or its input is wrong
_PERMANENT = (
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    SyntaxError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    DataError,
    InvalidUpdateError,
    EmptyInputError,
)

#: PostgreSQL's, of what it is given by LangGraph's saver or by the agent itself: it refuses the same value for ever
_REFUSED_VALUE = (RefusedValue, ProgramLimitExceeded)


@dataclass
class Taken:
    """The run as an attempt holds it, once it has begun."""

    run: Run | None = None


@asynccontextmanager
async def failure_kept(turn: Turn) -> AsyncIterator[Taken]:
    """Keep with the run why this attempt failed; Temporal tells that only to who asks it.

    Raises GaveUp in the error's place where the agent's limits say so.
    """
    taken = Taken()
    try:
        yield taken
    except (RunClosed, GaveUp, Fenced):
        raise
    except GraphDrained:
        if taken.run is not None:
            with suppress(DatabaseError):
                await in_database(services.let_go, turn, taken.run.fence)
        raise
    except Exception as exc:
        if taken.run is not None:
            with suppress(DatabaseError):
                attempt = activity.info().attempt
                await in_database(failing.note, turn, taken.run.fence, attempt, failed_of(exc))
        raise


def said_of(refusal: Exception) -> str:
    """Return in a sentence why the graph's own check refused an answer."""
    if isinstance(refusal, ValidationError):
        first = refusal.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: {first['msg']}"[:400] if where else first["msg"][:400]
    return str(refusal)[:400]


def failed_of(exc: Exception) -> Failed:
    """Return what an attempt failed of, in a sentence, with the node and the folded trace where they are known."""
    kinds = tuple(kind.__name__ for kind in type(exc).__mro__ if issubclass(kind, Exception))
    nodes = [found[1] for note in getattr(exc, "__notes__", ()) if (found := _IN_NODE.match(note))]
    node = "/".join(reversed(nodes))  # the innermost is noted first
    if isinstance(exc, OURS):
        return Failed(kinds, str(exc), bool(getattr(exc, "permanent", True)), node)
    if isinstance(exc, GraphRecursionError):
        sentence = (
            "The agent took more steps in one turn than it may, so it does not seem to come to an end. "
            "`steps_per_turn` of its registration is the limit."
        )
        return Failed((TooManySteps.__name__, *kinds), sentence, is_permanent=True, node=node)
    trace = "".join(traceback.format_list(traceback.extract_tb(exc.__traceback__)[-_FRAMES_AT_MOST:]))
    said = f": {exc}" if str(exc) else ""
    said = f"{type(exc).__name__}{f' in the node “{node}”' if node else ''}{said}"
    if isinstance(exc, _REFUSED_VALUE):
        sentence = (
            "PostgreSQL does not keep a value that the agent gave it. A text or a number that is itself the value of a "
            "state key is kept as JSON: it holds no character U+0000, no half of a surrogate pair, no NaN, no infinity "
            f"and at most 256 MB. Let the node return it without them. PostgreSQL's words: {said}"
        )
        return Failed(("AgentError", *kinds), sentence[:1500], is_permanent=True, node=node, trace=trace)
    if isinstance(exc, _PERMANENT):
        sentence = f"The agent's code raised {said}"[:1500]
        return Failed(("AgentError", *kinds), sentence, is_permanent=True, node=node, trace=trace)
    return Failed(kinds, said[:1500], node=node, trace=trace)
