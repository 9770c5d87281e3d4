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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any, Final

from django.db import connection

from approvals.models import AuditEvent
from approvals.record import walking
from approvals.record.walking import MOMENT, Walked, canonical, canonical_entry, digest_of_entry, joined, walk
from console import planned_once
from console.database import conninfo
from console.locks import AdvisoryLock

__all__ = ("canonical_entry",)

_NO_MORE: Final = 2**63 - 1  # than this is any number of an entry
_LARGEST = 2**53 - 1  # the largest whole number that RFC 8785 carries exactly


#: the expression that holds the chain until the transaction ends, for a statement that is followed by an entry
HOLD_CHAIN: Final = f"pg_advisory_xact_lock({AdvisoryLock.AUDIT_CHAIN:d})"
ENTRY_COLUMNS: Final = ("at", "actor", "kind", "subject", "body", "previous", "digest")

# Never in one statement with the lock: it would read the head that was there before it waited.
# clock_timestamp would differ from the rows of the same change; signalbox_now is the transaction's.
_APPEND = f"""
INSERT INTO approvals_auditevent ({", ".join(ENTRY_COLUMNS)})
SELECT at, %(actor)s, %(kind)s, %(subject)s, %(body)s::jsonb, previous, encode(sha256(convert_to(
    %(to_at)s || {MOMENT.format(at="at")} || %(to_previous)s || previous || %(to_end)s, 'UTF8')), 'hex')
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
    said = {name: canonical(value) for name, value in (("actor", actor), ("kind", kind), ("subject", subject))}
    between = f'","body":{canonical(body)},"kind":{said["kind"]},"previous":"'
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


def as_told(value: Any) -> Any:
    """Return what a caller has sent, JSON, as an entry can hold it.

    Where it holds a number that no entry can hold exactly, the whole value is its JSON text.
    """
    try:
        _check(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False)
    return value


def digest_of(event: AuditEvent) -> str:
    """Return the digest that the entry must have."""
    return digest_of_entry(moment(event.at), event.actor, event.kind, event.subject, event.body, event.previous)


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


@dataclass(frozen=True)
class Head:
    """The end of the chain as it was at some moment, kept where the database cannot reach it."""

    digest: str
    seq: int | None = None  # None: only the digest was kept
    at: str = ""  # when it was written down, RFC 3339


@dataclass(frozen=True)
class WholeCheck:
    """What a check of the whole chain has found, which was whole."""

    seq: int  # of its last entry
    digest: str
    entries: int
    at: str  # when, by the database's clock, RFC 3339 in UTC


@dataclass(frozen=True)
class NewestPart:
    """What was looked at where that was not the whole chain."""

    after: int  # the entries with a number above this one
    checked: WholeCheck | None  # the last check of the whole


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
    last_seq: int = 0  # of the last entry that fits
    part: NewestPart | None = None  # `None`: the whole chain was walked
    walked: int = 0  # entries that were looked at now

    @property
    def sentence(self) -> str:
        """Say in words what was found and what was not looked at."""
        if self.first_bad is not None:
            before = self.entries if self.part is None else self.walked
            return (
                f"Entry {self.first_bad} does not fit: it, or what stood directly before it, was changed, removed, "
                f"moved or put in. The {before:,} entries before it fit."
            )
        if self.missing is not None:
            number = f"Entry {self.missing.seq}" if self.missing.seq is not None else "The entry"
            noted = f" at {self.missing.at}" if self.missing.at else ""
            return (
                f"The {self.entries:,} entries fit each other, but they are not the record that was here before. "
                f"{number}, whose digest {self.missing.digest[:12]}… was written down outside{noted}, is not among "
                "them: the end was cut off, the whole was replaced, or an older backup was restored."
            )
        if self.part is not None:
            return self._of_a_part(self.part)
        if not self.heads:
            return (
                f"All {self.entries:,} entries fit. No head from outside was there to compare with, so a cut-off end "
                "or a record replaced as a whole would not show."
            )
        return f"All {self.entries:,} entries fit, and every head kept outside is among them ({self.heads:,})."

    def _of_a_part(self, part: NewestPart) -> str:
        said = f"The newest {self.walked:,} entries fit, and every head kept outside of them is there ({self.heads:,})."
        last = part.checked
        if last is None:
            return f"{said} Those before were not looked at, and never all at once: `manage.py verify_audit` does that."
        until = f"all up to entry {last.seq} were checked at {last.at}"
        if last.seq >= part.after:
            return f"{said} Those before were not looked at now: {until}. `manage.py verify_audit` checks them again."
        return (
            f"{said} Those before were not looked at now: {until}, and those from {last.seq + 1} to {part.after} were "
            "not since. `manage.py verify_audit` checks all of them."
        )


def verify(heads: Iterable[Head] = (), *, processes: int = 1) -> Verification:
    """Walk the whole chain, and say whether every entry fits the one before and every outside head is in it.

    Reads one snapshot through a cursor on the server: 100,000 entries take about two seconds and little memory. With
    several `processes` each takes a part of the entries that are there when it begins.
    """
    wanted = {head.digest: head for head in heads}
    digests = frozenset(wanted)
    whole = joined(_walk_at_once(digests, processes)) if processes > 1 else walk(_entries(walking.ALL), "", digests)
    return _judged(whole, wanted)


def verify_newest(heads: Iterable[Head], after: int, checked: WholeCheck | None = None) -> Verification:
    """Walk the entries with a number above `after`, and hold the heads that were kept of them against them.

    `checked`: the last check of the whole, whose last entry must still be there as it was.
    """
    kept = list(heads)
    with planned_once.cursor() as cursor:
        cursor.execute(walking.ENTRY_BEFORE, [after])
        (before,) = cursor.fetchone() or ("",)
        cursor.execute("SELECT digest FROM approvals_auditevent WHERE seq = %s", [checked.seq if checked else -1])
        stands = cursor.fetchone()
    wanted = {head.digest: head for head in kept if head.seq is None or head.seq > after}
    found = _judged(walk(_entries(walking.PART, [after, _NO_MORE]), before, frozenset(wanted)), wanted)
    is_joined = checked is not None and checked.seq >= after
    known = checked.entries - _count(after, checked.seq) if checked is not None and is_joined else 0
    if checked is not None and stands != (checked.digest,) and found.first_bad is None:
        found = replace(found, ok=False, missing=Head(checked.digest, checked.seq, checked.at))
    return replace(found, entries=found.entries + known, walked=found.entries, part=NewestPart(after, checked))


def _count(after: int, until: int) -> int:
    """Return how many entries have a number above `after`, up to `until`. One query over an index."""
    with planned_once.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM approvals_auditevent WHERE seq > %s AND seq <= %s", [after, until])
        (count,) = cursor.fetchone()
    return int(count)


def newest_number() -> int:
    """Return the number of the newest entry, 0 while there is none."""
    return AuditEvent.objects.order_by("-seq").values_list("seq", flat=True).first() or 0


def _judged(walked: Walked, wanted: Mapping[str, Head]) -> Verification:
    if walked.first_bad is not None:
        return Verification(False, walked.entries, walked.head, walked.first_bad, walked.gaps, len(wanted))
    there = walked.found  # the same entry under another number is another one
    missing = [one for one in wanted.values() if one.digest not in there or one.seq not in (None, there[one.digest])]
    first = min(missing, key=lambda one: one.seq or 0, default=None)
    entries, gaps = walked.entries, walked.gaps
    return Verification(first is None, entries, walked.head, None, gaps, len(wanted), first, last_seq=walked.last_seq)


def _entries(sql: str, values: Sequence[int] = ()) -> Iterator[walking.Entry]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(sql, values)
        while rows := cursor.fetchmany(5000):
            yield from rows


def _walk_at_once(wanted: frozenset[str], processes: int) -> list[Walked]:
    """Walk parts of the chain, each in a process of its own, which imports no Django."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(seq), max(seq) FROM approvals_auditevent")
        first, last = cursor.fetchone()
    if first is None:
        return [Walked()]
    size = -(-(last - first + 1) // processes)
    parts = [(low, min(low + size - 1, last)) for low in range(first, last + 1, size)]
    address = conninfo("signalbox verify_audit")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        walks = [pool.submit(walking.walk_part, address, low - 1, high, wanted) for low, high in parts]
        return [walk.result() for walk in walks]
