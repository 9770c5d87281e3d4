"""What workflows are known to take, so that a form can be drawn and a wrong argument is refused before it is sent.

Ours say it here. Other people's are named in `SIGNALBOX_WORKFLOW_MESSAGES`: modules, each with a list MESSAGES of
KnownMessage. What is not known is sent as the JSON that was typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from console.environment import environment
from orchestration.agents.arguments import schema_of
from orchestration.contracts import WORKFLOW

Kind = Literal["signal", "query", "update"]
KINDS: Final[tuple[Kind, ...]] = ("signal", "query", "update")
#: queries that Temporal's SDKs answer for every workflow
BUILT_IN: Final = ("__stack_trace", "__enhanced_stack_trace", "__temporal_workflow_metadata")


@dataclass(frozen=True)
class KnownMessage:
    """One message that a type of workflow takes. `takes`: its one argument, `None` where it takes none."""

    workflow: str  # the workflow's type
    kind: Kind
    name: str
    takes: type[BaseModel] | None = None
    explains: str = ""

    @property
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the argument; of an empty object where it takes none."""
        return schema_of(self.takes) if self.takes else {"type": "object", "properties": {}}


OURS: Final = (
    KnownMessage(WORKFLOW, "query", "waiting_for", explains="The ids of the approvals that the run waits for."),
    *(KnownMessage(WORKFLOW, "query", name) for name in BUILT_IN),
)


def known(workflow_type: str) -> list[KnownMessage]:
    """Return what workflows of the type are known to take. Raises ImportError for a setting that names no module."""
    return [one for one in (*OURS, *_theirs(environment().workflow_messages)) if one.workflow == workflow_type]


def find(workflow_type: str, kind: str, name: str) -> KnownMessage | None:
    return next((one for one in known(workflow_type) if (one.kind, one.name) == (kind, name)), None)


@cache
def _theirs(modules: str) -> tuple[KnownMessage, ...]:
    names = [name.strip() for name in modules.split(",") if name.strip()]
    return tuple(one for name in names for one in import_module(name).MESSAGES)


def fault_of(message: KnownMessage, arguments: list[Any]) -> str:
    """Return why the message cannot be sent with these arguments, in words, "" when it can."""
    if message.takes is None:
        return "It takes no argument." if arguments else ""
    if len(arguments) != 1:
        return "It takes exactly one argument."
    try:
        message.takes.model_validate(arguments[0])
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}." if where else f"{first['msg']}."
    return ""
