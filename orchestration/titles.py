"""What a run is about, in one line: by its agent's `run_title`, else what stands in its input, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestration.agents.registry import agents
from orchestration.models import Run
from orchestration.state.secrets import hidden_of

AT_MOST: Final = 160  # characters
_PLACE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")


def title_of(run: Run) -> str:
    """Return the run's title; it quotes the input, which is untrusted."""
    agent, hidden = agents().get(run.agent), hidden_of(run.agent)
    if hidden.everything:
        return run.pk
    given = hidden.without(run.input)
    if agent is not None and agent.run_title:
        title = _PLACE.sub(lambda place: _plain(_at(given, place[1])), agent.run_title)
    else:
        names = list(agent.input.model_fields) if agent is not None else sorted(given)
        shown = [(name, _plain(given.get(name))) for name in names]
        title = " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown if value)
    title = " ".join(title.split())
    return title[:AT_MOST] + "…" if len(title) > AT_MOST else title or run.pk


def places_of(template: str) -> list[str]:
    """Return the names that a template uses."""
    return _PLACE.findall(template)


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return f"{len(value)} values"
    return ", ".join(_plain(one) for one in value[:5]) if isinstance(value, list) else str(value)[:AT_MOST]
