"""What a cause says of a run, and how moments, names and words of others are put into its sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from console.text.visible import one_line

State = Literal["healthy", "waiting", "stuck", "failed", "finished"]
WORDS_AT_MOST: Final = 300  # characters of somebody else's in a sentence
NAMES_AT_MOST: Final = 5


@dataclass(frozen=True)
class ToldCause:
    """What one cause says. `sentence` may quote others, made visible and on one line."""

    sentence: str
    since: datetime | None = None
    who: list[str] = field(default_factory=list)  # user names of those who can do something
    state: State | None = None  # where it is not the cause's usual one
    group: str = ""  # what parts runs with this cause, where one cure does not help all of them
    about: str = ""  # the same for all of the group, instead of the cause's own heading
    links: tuple[tuple[str, str, str], ...] = ()  # words, URL's name, id that it takes


def at(moment: datetime) -> str:
    """Return a moment as sentences tell it."""
    return f"{moment.astimezone(UTC):%-d %b %Y %H:%M} UTC"


def exact(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S} UTC"


def moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def quoted(words: str) -> str:
    """Return words of somebody else, cut and made visible, without the full stop at their end."""
    shown = one_line(words.strip())
    cut = shown[:WORDS_AT_MOST] + "…" if len(shown) > WORDS_AT_MOST else shown
    return cut.rstrip(".")


def asked_to_end(asked: Mapping[str, Any]) -> str:
    """Return who asked for a run's end, and why. `asked`: see `Run.ending`."""
    what = {"cancel": "cancel it", "end": "end it"}.get(str(asked.get("action")), "fail its turn")
    return f"{quoted(str(asked.get('by')))} has asked to {what}: {quoted(str(asked.get('reason')))}."


def names(people: Sequence[str], most: int = NAMES_AT_MOST) -> str:
    """Return names for a sentence: "alice, bob or 3 others"."""
    shown = [one_line(name) for name in people[:most]]
    if len(people) > most:
        rest = len(people) - most
        shown.append(f"{rest} other{'' if rest == 1 else 's'}")
    return " or ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def times(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
