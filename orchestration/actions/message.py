"""Signal, query, update: an operator writes to the run's workflow by hand. What carries answers is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from django.contrib.auth.models import User
from pydantic import Field

from orchestration.actions import facts
from orchestration.actions.base import Action, Options, Preview, Wish
from orchestration.messages import sending
from orchestration.messages.known import BUILT_IN
from orchestration.models import Run, WorkflowMessage


class MessageOptions(Options):
    """What is sent; another `key` sends the same once more."""

    name: Annotated[str, Field(min_length=1, max_length=sending.NAME_LIMIT, title="Name")]
    arguments: Annotated[list[Any], Field(title="Arguments", description="A list of JSON values", max_length=20)] = []
    key: Annotated[str, Field(max_length=100, title="Key", description="Another one sends the same once more")] = ""


class QueryOptions(MessageOptions):
    """What is asked."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=sending.NAME_LIMIT,
            title="Name",
            description=f"waiting_for, {', '.join(BUILT_IN)}",
        ),
    ]


def _previews(kind: str) -> Any:
    def preview(run: Run, options: MessageOptions) -> Preview:
        if kind != "query":
            facts.check_open(run)
        found = sending.warnings_of(sending.to_run(run, kind, options.name, options.arguments))
        sent = WorkflowMessage.objects.filter(run=run).count()
        depends_on = (kind, options.name, options.arguments, options.key, sent)
        return Preview(warnings=[*found, *facts.temporal_away(facts.parts_alive())], depends_on=depends_on)

    return preview


def _does(kind: str) -> Any:
    def do(run: Run, wish: Wish) -> None:
        options: MessageOptions = wish.options
        letter = sending.to_run(run, kind, options.name, options.arguments)
        sending.keep(letter, reason=wish.reason, by=User.objects.get(username=wish.by), run=run, key=options.key)

    return do


SIGNAL: Final = Action(
    name="signal",
    title="Signal this run's workflow",
    button="Send a signal",
    icon="send",
    explains="A signal by its name, with the arguments that you type. The one by which decisions arrive is never sent "
    "by hand.",
    said="The signal is on its way. What came of it stands on the run's page.",
    kind="run.signal_sent",
    preview=_previews("signal"),
    do=_does("signal"),
    options=MessageOptions,
    overtakes=True,
    is_offered=lambda run: False,  # the page of what was sent leads here: these are no everyday buttons
)
QUERY: Final = replace(
    SIGNAL,
    name="query",
    title="Query this run's workflow",
    button="Ask the workflow",
    icon="search",
    explains="A worker answers from what the workflow knows. That changes nothing.",
    said="The question is on its way. The answer stands on the run's page.",
    kind="run.queried",
    preview=_previews("query"),
    do=_does("query"),
    options=QueryOptions,
    start=lambda run: {"name": "waiting_for"},
    is_grave=False,
)
UPDATE: Final = replace(
    SIGNAL,
    name="update",
    title="Update this run's workflow",
    button="Send the update",
    explains="An update by its name, with the arguments that you type. The workflow answers, or refuses it.",
    said="The update is on its way. The answer stands on the run's page.",
    kind="run.update_sent",
    preview=_previews("update"),
    do=_does("update"),
)
