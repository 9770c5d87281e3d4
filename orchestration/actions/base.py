"""What an action is: what it would do, told first and true, and the doing, in one transaction with the row held."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from orchestration.agents.arguments import schema_of
from orchestration.models import Run


@dataclass(frozen=True)
class Preview:
    """What an action would do, before anything is done: ids, oldest first, and sentences."""

    effects_repeated: list[str] = field(default_factory=list)  # approvals whose effect could happen again
    approvals_withdrawn: list[str] = field(default_factory=list)
    decisions_voided: list[str] = field(default_factory=list)
    checkpoints_dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    effects_kept: list[str] = field(default_factory=list)  # approvals whose effect is set back and never happens again
    depends_on: tuple[Any, ...] = ()  # what else decides about what the action would do; JSON

    @property
    def state(self) -> str:
        """Return a text that is another one as soon as the action would do something else."""
        told = [
            self.effects_repeated,
            self.approvals_withdrawn,
            self.decisions_voided,
            self.checkpoints_dropped,
            self.effects_kept,
            self.depends_on,
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        return {
            "effects_repeated": self.effects_repeated,
            "approvals_withdrawn": self.approvals_withdrawn,
            "decisions_voided": self.decisions_voided,
            "checkpoints_dropped": self.checkpoints_dropped,
            "effects_kept": self.effects_kept,
            "warnings": self.warnings,
            "state": self.state,
        }


class Options(BaseModel, extra="forbid"):
    """What an action takes besides a reason; the fields are those of its page and of the API."""


@dataclass(frozen=True)
class Wish:
    """Who wants an action, why, and with which options."""

    by: str  # the user name
    reason: str
    options: Any  # the action's own Options


@dataclass(frozen=True)
class Action:
    """One thing that an operator does about one run.

    `preview` changes nothing; it raises ActionRefused, with a sentence, where the action cannot be taken. `do` is
    called with the row held, after `preview` has let it pass, in the transaction that records it; it returns another
    run where it makes one. `is_same` says whether this person has asked for just this already, so that a second click
    is the same answer; what it does not know, the kept actions do.
    """

    name: str
    title: str  # "Pause this run"
    button: str  # "Pause the run"
    icon: str
    explains: str  # one or two sentences
    said: str  # once it is done
    kind: str  # in the record
    preview: Callable[[Run, Any], Preview]
    do: Callable[[Run, Wish], Run | None]
    is_same: Callable[[Run, str], bool] = lambda run, by: False
    options: type[Options] = Options
    start: Callable[[Run], dict[str, Any]] = lambda run: {}  # what the page's form begins with
    takes_point: bool = False  # its options are those of actions.points.Where and more
    is_grave: bool = True
    may_be_repeated: bool = False  # asked again later it is done again: once more is well, and the first is long over
    needs_new_look: bool = False  # asked again later it is refused, unless its `state` says that it was looked at anew
    overtakes: bool = False  # it may be taken while another is under way
    is_offered: Callable[[Run], bool] = lambda run: run.status in Run.OPEN  # as a button of the run's page

    @property
    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the options."""
        return schema_of(self.options)
