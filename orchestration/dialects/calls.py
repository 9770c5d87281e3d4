"""What the forms that ask about a tool call have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of
from approvals.reading.for_runs import Ending, Settled
from console.text.plain_json import plain
from console.text.stored import storable
from orchestration.agents.runtime import UNSAID
from orchestration.dialects.base import Place
from orchestration.errors import UnknownDialect

TEXT: Final[dict[str, Any]] = {"type": "string", "minLength": 1}  # what these forms take in a tool's place
NOBODY: Final = "Nobody decided in time. This is not a rejection; do not ask for it again."
WITHDRAWN: Final = "The request was withdrawn before anybody decided. This is not a rejection."
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_WORDS_AT_MOST: Final = 20_000  # characters


def place_of_call(
    name: Any,
    arguments: Any,
    *,
    words: Any = "",
    verdicts: Sequence[str],
    arguments_schema: Mapping[str, Any] | None = None,
    call_id: str = "",
) -> Place:
    """Return the place of one tool call. Raises UnknownDialect for one that cannot be shown exactly."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UnknownDialect(f"The agent asked about a tool whose name cannot be kept: {str(name)[:200]!r}.")
    given = plain(arguments if arguments is not None else {}, exactly=True)
    if not isinstance(given, dict):
        raise UnknownDialect(f"The agent asked about {name} with arguments that are no object, so nobody can be shown.")
    if not verdicts:
        raise UnknownDialect(f"The agent asked about {name} and allows no decision, so nobody can answer.")
    canonical = exact(name, given)
    return Place(
        kind="action",
        canonical=canonical,
        digest=digest_of(canonical),
        summary=f"{name}: {_told(given)}" if given else name,
        agent_words=storable(str(words or ""))[:_WORDS_AT_MOST],
        arguments_schema=dict(arguments_schema or {}),
        risk="high",
        verdicts=tuple(verdicts),
        answer_schema=TEXT,
        call_id=call_id,
        is_tracked=False,
    )


def exact(name: str, arguments: dict[str, Any]) -> bytes:
    """Return the canonical bytes. Raises UnknownDialect in a sentence."""
    try:
        return canonicalise(name, arguments)
    except NotCanonical as exc:
        raise UnknownDialect(f"What the agent asked cannot be shown exactly, so nobody was asked. {exc}") from exc


def _told(arguments: Mapping[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in arguments.items() if isinstance(value, str | int | float)]
    return storable(", ".join(" ".join(str(part).split()) for part in parts))[:300] or f"{len(arguments)} arguments"


def ending_of(place: Settled) -> Ending:
    if place.ending is None:
        raise ValueError(f"The approval {place.approval_id} is still pending.")
    return place.ending


def silence_about(ending: Ending, on_silence: Any) -> str:
    """Return what the model is told of a call that nobody decided."""
    if on_silence is not UNSAID and isinstance(on_silence, str):
        return on_silence
    return WITHDRAWN if ending.verdict == "withdrawn" else NOBODY


def text_of(answer: Any) -> str:
    """Return an answer as the text that these forms take; it was checked when it was given."""
    return answer if isinstance(answer, str) else exact("", {"answer": answer}).decode()
