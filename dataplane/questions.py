"""Questions whose right passage is known: what search is measured with.

They stand in `questions.toml` in the handbook's folder, written by people. A passage is named by document and heading,
so that its words may be edited.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final

from dataplane.errors import HandbookInvalid

FILE: Final = "questions.toml"
MOST_QUESTIONS: Final = 1000


@dataclass(frozen=True)
class Question:
    """One question, and the names of the passages that answer it."""

    ask: str
    passages: tuple[str, ...]  # "document # heading"


def read_questions(folder: Path) -> list[Question]:
    """Return the questions of the handbook in this folder; none where there is no file. Raises HandbookInvalid."""
    path = folder.expanduser() / FILE
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise HandbookInvalid(f"{FILE} cannot be read: {exc}") from exc
    given = whole.get("question", [])
    if not isinstance(given, list) or len(given) > MOST_QUESTIONS:
        raise HandbookInvalid(f"{FILE} must hold [[question]] tables, {MOST_QUESTIONS:,} at most.")
    return [_question(number, one) for number, one in enumerate(given, start=1)]


def _question(number: int, given: Any) -> Question:
    ask, passages = (given.get("ask"), given.get("passages")) if isinstance(given, dict) else (None, None)
    names = passages if isinstance(passages, list) and all(isinstance(name, str) for name in passages) else []
    if not isinstance(ask, str) or not ask.strip() or len(ask) > 1000 or not names:
        raise HandbookInvalid(
            f'{FILE}: question {number} needs ask = "..." (1,000 characters at most) and '
            'passages = ["document.md # Heading"].'
        )
    return Question(ask.strip(), tuple(names))


def digest_of(questions: Sequence[Question]) -> str:
    """Return the SHA-256, hex, of the set: scores of two sets do not compare."""
    return hashlib.sha256(json.dumps([astuple(one) for one in questions]).encode()).hexdigest()
