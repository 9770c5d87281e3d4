"""The form that starts a run, drawn from the agent's input schema. The agent's own model has the last word."""

from __future__ import annotations

from django.http import QueryDict

from console.forms import schema_form
from orchestration.agents.arguments import input_schema_of
from orchestration.agents.runtime import Agent

PREFIX = "input"


def input_form(agent: Agent, sent: QueryDict | None = None) -> schema_form.Form:
    """Return the form with the schema's defaults, or with what was sent."""
    schema = input_schema_of(agent)
    if sent is None:
        return schema_form.build(schema, prefix=PREFIX, id_prefix="field")
    return schema_form.read(schema, schema_form.MISSING, sent, prefix=PREFIX, id_prefix="field")


def place_faults(form: schema_form.Form, errors: list[dict[str, str]]) -> None:
    """Put what the agent's model refused at the fields it is about."""
    for error in errors:
        first, _, below = error["path"].partition(".")
        path = schema_form.steps_of(below) if first == PREFIX else [error["path"]]
        form.add_error(path, error["message"])
