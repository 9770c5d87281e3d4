"""How LangChain's middleware asks with `interrupt_mode="per_call"`: one interrupt for each call (ToolApprovalRequest).

    {"type": "tool_approval", "tool_call_id", "name", "args", "description"}, with a response schema
    -> one decision, as in `langchain_batched`

The response schema says which decisions the call takes, and what an edit's arguments look like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from approvals.reading.for_runs import Settled
from console.forms import schema_check
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import AskedInterrupt, Place, Untellable
from orchestration.dialects.calls import place_of_call
from orchestration.dialects.langchain_batched import decision_of

_VERDICTS: Final = ("approve", "edit", "reject", "respond")


class PerCall:
    """One place."""

    name = "langchain"

    def speaks(self, value: Any) -> bool:
        return isinstance(value, dict) and value.get("type") == "tool_approval" and "name" in value

    def proposals_of(self, interrupt: AskedInterrupt) -> list[Place]:
        value, schema = interrupt.value, getattr(interrupt, "response_schema", None)
        call_id = value.get("tool_call_id")
        return [
            place_of_call(
                value["name"],
                value.get("args"),
                words=value.get("description"),
                verdicts=allowed(schema),
                arguments_schema=arguments_schema(schema),
                call_id=call_id if isinstance(call_id, str) else "",
            )
        ]

    def answer(self, interrupt: AskedInterrupt, places: Sequence[Settled], on_silence: Any = UNSAID) -> dict[str, Any]:
        (place,) = places
        schema = getattr(interrupt, "response_schema", None)
        decision = decision_of(place, interrupt.value["name"], allowed(schema), on_silence)
        if isinstance(schema, dict):
            faults = schema_check.check(_branch(schema, decision["type"]), decision)
            if faults:
                raise Untellable(f"{interrupt.value['name']} does not take the answer: {faults[0].sentence}")
        return decision


def _branches(schema: Any) -> dict[str, dict[str, Any]]:
    """Return the form of each decision that the schema names, by its type."""
    if not isinstance(schema, dict):
        return {}
    found = {}
    for one in schema["oneOf"] if isinstance(schema.get("oneOf"), list) else [schema]:
        branch = _resolved(one, schema)
        properties = branch.get("properties")
        kind = properties.get("type", {}).get("const") if isinstance(properties, dict) else None
        if isinstance(kind, str):
            found[kind] = branch
    return found


def _resolved(one: Any, schema: Any) -> dict[str, Any]:
    reference = one.get("$ref") if isinstance(one, dict) else None
    definitions = schema.get("$defs") if isinstance(schema, dict) else None
    if isinstance(reference, str) and isinstance(definitions, dict):
        one = definitions.get(reference.removeprefix("#/$defs/"))
    return one if isinstance(one, dict) else {}


def _branch(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the form of one decision by itself, so that a fault is told of that one."""
    return {**_branches(schema).get(kind, {}), "$defs": schema.get("$defs", {})}


def allowed(schema: Any) -> tuple[str, ...]:
    """Return the decisions that the call takes; all where it does not say."""
    branches = _branches(schema)
    return tuple(verdict for verdict in _VERDICTS if not branches or verdict in branches)


def arguments_schema(schema: Any) -> dict[str, Any]:
    """Return the schema of an edit's arguments, {} where there is none."""
    edit = _branches(schema).get("edit", {})
    action = _resolved(edit.get("properties", {}).get("edited_action"), schema) if edit else {}
    arguments = action.get("properties", {}).get("args") if isinstance(action.get("properties"), dict) else None
    found = _resolved(arguments, schema)
    return {**found, "$defs": schema["$defs"]} if found and "$defs" in schema else found
