"""The record: each entry carries the digest of the one before, so a change anywhere breaks the chain.

An entry's digest is SHA-256 over RFC 8785 JSON of its fields and the previous digest. Entries are written inside
the transaction of the change they tell, one at a time (an advisory lock held until commit keeps the order).

The chain alone tells of every change, removal, insertion and exchange inside it. Two things it cannot tell: that its
end was cut off, and that all of it was written anew. Those need a head that was kept outside; see `audit_heads`.
A gap in the numbers means nothing: a change that was taken back has used up a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import rfc8785
from django.db import connection

from approvals.models import AuditEvent
from console import planned_once
from console.locks import AdvisoryLock

_LARGEST = 2**53 - 1  # the largest whole number that RFC 8785 carries exactly


#: the expression that holds the chain until the transaction ends, for a statement that is followed by an entry
HOLD_CHAIN: Final = f"pg_advisory_xact_lock({AdvisoryLock.AUDIT_CHAIN:d})"
ENTRY_COLUMNS: Final = ("at", "actor", "kind", "subject", "body", "previous", "digest")
_MOMENT: Final = """to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""  # as `moment` writes it

# Never in one statement with the lock: it would read the head that was there before it waited.
# clock_timestamp would differ from the rows of the same change; signalbox_now is the transaction's.
_APPEND = f"""
INSERT INTO approvals_auditevent ({", ".join(ENTRY_COLUMNS)})
SELECT at, %(actor)s, %(kind)s, %(subject)s, %(body)s::jsonb, previous, encode(sha256(convert_to(
    %(to_at)s || {_MOMENT.format(at="at")} || %(to_previous)s || previous || %(to_end)s, 'UTF8')), 'hex')
FROM (SELECT signalbox_now() AS at,
             coalesce((SELECT digest FROM approvals_auditevent ORDER BY seq DESC LIMIT 1), '') AS previous) AS head
"""


def record(*, actor: str, kind: str, subject: str, body: dict[str, Any], is_held: bool = False) -> None:
    """Append one entry. Call it last in a transaction: everyone else's entries wait until that commits.

    `body`: JSON of texts, whole numbers, truth values, nulls and lists or objects of them; ids and digests, no
    payloads. Raises TypeError for anything else, for it could not be checked to the last byte. `is_held`: a statement
    before this one has held the chain.
    """
    _check(body)
    to_at, to_previous, to_end = _around_the_chain(actor, kind, subject, body)
    values = {"actor": actor, "kind": kind, "subject": subject, "body": json.dumps(body)}
    with planned_once.in_one_go():  # while the chain is held everybody else waits, so nothing is done in between
        if not is_held:
            hold_chain()
        with planned_once.cursor() as cursor:
            cursor.execute(_APPEND, values | {"to_at": to_at, "to_previous": to_previous, "to_end": to_end})


def _around_the_chain(actor: str, kind: str, subject: str, body: dict[str, Any]) -> tuple[str, str, str]:
    """Return the canonical entry without what only the database knows: up to `at`, from there to `previous`, the rest.

    Neither needs an escape in JSON: one is a moment, the other a digest.
    """
    said = {name: _canonical(value) for name, value in (("actor", actor), ("kind", kind), ("subject", subject))}
    between = f'","body":{_canonical(body)},"kind":{said["kind"]},"previous":"'
    return f'{{"actor":{said["actor"]},"at":"', between, f'","subject":{said["subject"]}}}'


def hold_chain() -> None:
    """Keep the chain for this transaction, as `record` does, for changes that lock something else after an entry."""
    with planned_once.cursor() as cursor:
        cursor.execute(f"SELECT {HOLD_CHAIN}")


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"An entry of the record cannot hold the key {key!r}: name it by a text.")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) > _LARGEST):
        raise TypeError(f"An entry of the record cannot hold the number {value!r} exactly: write it as text.")
    elif not isinstance(value, str | int | None):
        raise TypeError(f"An entry of the record cannot hold a {type(value).__name__}.")


def digest_of(event: AuditEvent) -> str:
    """Return the digest that the entry must have."""
    return _digest(moment(event.at), event.actor, event.kind, event.subject, event.body, event.previous)


def digest_of_words(*words: Any) -> str:
    """Return the digest by which an entry holds what people said without repeating it; `words`: JSON values.

    SHA-256 of JSON with sorted names. 2.0 counts as 2: the database does not keep that difference.
    """
    return hashlib.sha256(json.dumps(_without_zeros(words), sort_keys=True).encode()).hexdigest()


def _without_zeros(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_zeros(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_zeros(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def moment(at: datetime) -> str:
    """Return an entry's time as its digest is made of it: RFC 3339 in UTC with microseconds."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def canonical_entry(at: str, actor: str, kind: str, subject: str, body: Any, previous: str) -> bytes:
    """Return the bytes that an entry's digest is made of; `at` as RFC 3339 in UTC with microseconds."""
    fields = {"at": at, "actor": actor, "kind": kind, "subject": subject, "body": body, "previous": previous}
    return _canonical(fields).encode()


def _canonical(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Without fractions only the order of keys beyond ASCII could differ from RFC 8785; this way is ten times as quick.
    return text if text.isascii() else bytes(rfc8785.dumps(value)).decode()


def _digest(at: str, actor: str, kind: str, subject: str, body: Any, previous: str) -> str:
    return hashlib.sha256(canonical_entry(at, actor, kind, subject, body, previous)).hexdigest()


@dataclass(frozen=True)
class Head:
    """The end of the chain as it was at some moment, kept where the database cannot reach it."""

    digest: str
    seq: int | None = None  # None: only the digest was kept
    at: str = ""  # when it was written down, RFC 3339


@dataclass(frozen=True)
class Verification:
    """The state of the chain."""

    ok: bool
    entries: int  # that fit, counted from the first
    head: str  # digest of the last entry that fits
    first_bad: int | None  # seq of the first entry that does not fit
    gaps: int = 0  # numbers that no entry has; not a fault
    heads: int = 0  # how many outside heads it was held against
    missing: Head | None = None  # the earliest outside head that the chain does not hold

    @property
    def sentence(self) -> str:
        """Say in words what was found and what was not looked at."""
        if self.first_bad is not None:
            return (
                f"Entry {self.first_bad} does not fit: it, or what stood directly before it, was changed, removed, "
                f"moved or put in. The {self.entries:,} entries before it fit."
            )
        if self.missing is not None:
            number = f"Entry {self.missing.seq}" if self.missing.seq is not None else "The entry"
            noted = f" at {self.missing.at}" if self.missing.at else ""
            return (
                f"The {self.entries:,} entries fit each other, but they are not the record that was here before. "
                f"{number}, whose digest {self.missing.digest[:12]}… was written down outside{noted}, is not among "
                "them: the end was cut off, the whole was replaced, or an older backup was restored."
            )
        if not self.heads:
            return (
                f"All {self.entries:,} entries fit. No head from outside was there to compare with, so a cut-off end "
                "or a record replaced as a whole would not show."
            )
        return f"All {self.entries:,} entries fit, and every head kept outside is among them ({self.heads:,})."


def verify(heads: Iterable[Head] = ()) -> Verification:
    """Walk the whole chain, and say whether every entry fits the one before and every outside head is in it.

    Reads one snapshot through a cursor on the server: 100,000 entries take about two seconds and little memory.
    """
    wanted = {head.digest: head for head in heads}
    known = len(wanted)
    missing: list[Head] = []
    entries, head, last_seq, gaps = 0, "", 0, 0
    for seq, at, actor, kind, subject, body, previous, digest in _entries():
        if previous != head or not _fits(digest, at, actor, kind, subject, body, previous):
            return Verification(False, entries, head, seq, gaps, known)
        if entries:
            gaps += seq - last_seq - 1
        entries, head, last_seq = entries + 1, digest, seq
        if wanted and (noted := wanted.pop(digest, None)) is not None and noted.seq not in (None, seq):
            missing.append(noted)  # the same entry under another number
    missing += wanted.values()
    first = min(missing, key=lambda one: one.seq or 0, default=None)
    return Verification(first is None, entries, head, None, gaps, known, first)


#: Moments as text, for a forged one may lie outside of what Python knows.
_ALL = f"""
SELECT seq,
       CASE WHEN at >= '0001-01-01 00:00Z' AND at < '10000-01-01 00:00Z'
            THEN {_MOMENT.format(at="at")} ELSE at::text END,
       actor, kind, subject, body::text, previous, digest
FROM approvals_auditevent ORDER BY seq
"""


def _entries() -> Iterator[tuple[int, str, str, str, str, str, str, str]]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(_ALL)
        while rows := cursor.fetchmany(5000):
            yield from rows


def _fits(digest: str, at: str, actor: str, kind: str, subject: str, body: str, previous: str) -> bool:
    try:
        return digest == _digest(at, actor, kind, subject, json.loads(body, parse_float=_refuse), previous)
    except (ValueError, TypeError, RecursionError):  # nothing that `record` writes
        return False


def _refuse(number: str) -> float:
    """9.0 and 9 have the same canonical form; no entry was written with a fraction."""
    raise ValueError(number)
