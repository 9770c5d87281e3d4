"""From decided requests to cases to evaluate on. Pure: no database, no Prefect, no clock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from console.text.diff import diff
from console.text.names import words_of
from dataplane.contents.records import RecordRow

#: Personal data is replaced by its kind. Each rule has a name, which every case says that it was applied.
PERSONAL: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("e-mail address", re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")),
    ("account number", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")),
    ("phone number", re.compile(r"(?<![\w.])(?:\+|00)\d(?:[ ()/-]?\d){6,14}\b")),
    ("card number", re.compile(r"\b(?:\d[ -]?){13,19}\b")),
)
#: Words of a name which say that it is about a person. The whole value below such a name is replaced; numbers and flags
#: are not.
NAMED: Final = re.compile(
    r"to|cc|bcc|(?:mobile|birthday|people|iban|street|\w*(?:recipient|customer|person|name|mail|phone|address))(?:e?s)?"
)
SPLITS: Final = (("train", 70), ("validation", 85), ("test", 100))  # up to this hundredth


@dataclass(frozen=True)
class Decided:
    """One decided request, as `signalbox_decided_material` gives it."""

    approval_id: str
    run_id: str
    agent: str
    tool: str
    risk: str
    summary: str
    agent_words: str
    proposed: str  # canonical JSON of {"tool", "arguments"}
    proposed_digest: str
    dataset_versions: list[dict[str, Any]]
    verdict: str
    note: str
    edited_arguments: dict[str, Any] | None
    answer: Any
    decided_at: str  # RFC 3339


def cases_of(decided: Iterable[Decided]) -> list[RecordRow]:
    """Return a case for each request, without personal data, in the order of the decisions."""
    known = list(decided)
    split = splits_of([(one.run_id, one.proposed_digest) for one in known])
    return [RecordRow(one.approval_id, _case(one, split[one.run_id])) for one in known]


def _case(one: Decided, split: str) -> dict[str, Any]:
    arguments = without_personal(json.loads(one.proposed)["arguments"])
    edited = without_personal(one.edited_arguments) if one.edited_arguments is not None else None
    changes = [] if edited is None else [change for change in diff(arguments, edited) if change.kind != "same"]
    return {
        "agent": one.agent,
        "tool": one.tool,
        "risk": one.risk,
        "summary": without_personal_text(one.summary),
        "agent_words": without_personal_text(one.agent_words),
        "arguments": arguments,
        "verdict": one.verdict,
        "note": without_personal_text(one.note),
        "changes": [{"path": one.path, "before": one.before, "after": one.after} for one in changes],
        "answer": without_personal(one.answer),
        "split": split,
        "provenance": {
            "approval": one.approval_id,
            "run": one.run_id,
            "proposed_digest": one.proposed_digest,
            "decided_at": one.decided_at,
            "dataset_versions": one.dataset_versions,
        },
        "rules": [name for name, _ in PERSONAL] + ["named arguments"],
    }


def without_personal_text(text: str) -> str:
    """Replace what the rules find by its kind, e.g. `<e-mail address>`."""
    for name, pattern in PERSONAL:
        text = pattern.sub(f"<{name}>", text)
    return text


def without_personal(value: Any) -> Any:
    """Replace personal data in every text, and the texts below names such as `email` as a whole."""
    if isinstance(value, str):
        return without_personal_text(value)
    if isinstance(value, list):
        return [without_personal(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _replaced(one) if _is_personal(str(key)) else without_personal(one) for key, one in value.items()}
    return value


def _is_personal(name: str) -> bool:
    return any(NAMED.fullmatch(word) for word in [*words_of(name), *words_of(name.lower())])  # also "IBANs"


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return "<personal>" if value else ""
    if isinstance(value, list):
        return [_replaced(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _replaced(one) for key, one in value.items()}
    return value


def splits_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the split of each run. Pairs: (run, digest of a proposal).

    Runs that proposed the very same, such as forks of one another, are in one split, and so are all cases of a run:
    what is tested on was never trained on. A run's split does not depend on what else is there, but for such runs.
    """
    return {run: _split(top) for run, top in groups_of(pairs).items()}


def groups_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the name of each run's group: runs that proposed the very same, also by way of others, are in one."""
    group = {run: run for run, _ in pairs}

    def top(run: str) -> str:
        while group[run] != run:
            group[run] = group[group[run]]
            run = group[run]
        return run

    first: dict[str, str] = {}
    for run, digest in pairs:
        other = top(first.setdefault(digest, run))
        mine = top(run)
        group[max(mine, other)] = min(mine, other)
    return {run: top(run) for run in group}


def _split(run: str) -> str:
    hundredth = int.from_bytes(hashlib.sha256(run.encode()).digest()[:4]) % 100
    return next(name for name, end in SPLITS if hundredth < end)
