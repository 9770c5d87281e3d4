"""Walk entries of the record's chain. Without Django, so that several processes can take a part each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import rfc8785

#: seq, at, actor, kind, subject, body as text, previous, digest
Entry = tuple[int, str, str, str, str, str, str, str]

#: how the database writes a moment as the digest is made of it
MOMENT: Final = """to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""

#: Moments as text, for a forged one may lie outside of what Python knows.
_ENTRIES: Final = f"""
SELECT seq,
       CASE WHEN at >= '0001-01-01 00:00Z' AND at < '10000-01-01 00:00Z'
            THEN {MOMENT.format(at="at")} ELSE at::text END,
       actor, kind, subject, body::text, previous, digest
FROM approvals_auditevent"""
ALL: Final = f"{_ENTRIES} ORDER BY seq"
PART: Final = f"{_ENTRIES} WHERE seq > %s AND seq <= %s ORDER BY seq"  # above a number, up to another
#: Takes a number; gives the digest of the entry before it.
ENTRY_BEFORE: Final = "SELECT digest FROM approvals_auditevent WHERE seq <= %s ORDER BY seq DESC LIMIT 1"

_AT_ONCE = 5000  # rows


@dataclass(frozen=True)
class Walked:
    """What a walk over some of the entries has found."""

    entries: int = 0  # that fit
    head: str = ""  # digest of the last of them
    first_seq: int = 0
    last_seq: int = 0
    gaps: int = 0  # numbers between them that no entry has
    first_bad: int | None = None  # seq of the first that does not fit; nothing after it was looked at
    found: dict[str, int] = field(default_factory=dict)  # of the digests that were looked for: where they are


def walk(entries: Iterable[Entry], previous: str, wanted: frozenset[str]) -> Walked:
    """Hold each entry against the one before. `previous`: the digest before the first; `wanted`: what to look for."""
    count, head, first_seq, last_seq, gaps = 0, previous, 0, 0, 0
    found: dict[str, int] = {}
    for seq, at, actor, kind, subject, body, before, digest in entries:
        if before != head or not _fits(digest, at, actor, kind, subject, body, before):
            return Walked(count, head, first_seq, last_seq, gaps, seq, found)
        if count:
            gaps += seq - last_seq - 1
        else:
            first_seq = seq
        count, head, last_seq = count + 1, digest, seq
        if digest in wanted:
            found[digest] = seq
    return Walked(count, head, first_seq, last_seq, gaps, None, found)


def walk_part(address: str, after: int, until: int, wanted: frozenset[str]) -> Walked:
    """Walk the entries above one number up to another, by a connection of its own; `address`: libpq's."""
    with psycopg.connect(address) as connection:
        before = connection.execute(ENTRY_BEFORE, [after]).fetchone()
        with connection.cursor("walk") as cursor:
            cursor.itersize = _AT_ONCE
            cursor.execute(PART, [after, until])
            return walk(_texts(cursor), before[0] if before else "", wanted)


def _texts(rows: Iterable[Any]) -> Iterator[Entry]:
    yield from rows


def joined(parts: Sequence[Walked]) -> Walked:
    """Return what was found in parts that follow each other, up to the first that does not fit."""
    whole = Walked()
    for part in parts:
        gap = part.first_seq - whole.last_seq - 1 if whole.entries and part.entries else 0
        whole = Walked(
            entries=whole.entries + part.entries,
            head=part.head or whole.head,
            first_seq=whole.first_seq or part.first_seq,
            last_seq=part.last_seq or whole.last_seq,
            gaps=whole.gaps + part.gaps + gap,
            first_bad=part.first_bad,
            found=whole.found | part.found,
        )
        if part.first_bad is not None:
            break
    return whole


def canonical_entry(at: str, actor: str, kind: str, subject: str, body: Any, previous: str) -> bytes:
    """Return the bytes that an entry's digest is made of; `at` as RFC 3339 in UTC with microseconds."""
    fields = {"at": at, "actor": actor, "kind": kind, "subject": subject, "body": body, "previous": previous}
    return canonical(fields).encode()


def canonical(value: Any) -> str:
    """Return RFC 8785 JSON of a value without fractions."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # Without fractions only the order of keys beyond ASCII could differ from RFC 8785; this way is ten times as quick.
    return text if text.isascii() else bytes(rfc8785.dumps(value)).decode()


def digest_of_entry(at: str, actor: str, kind: str, subject: str, body: Any, previous: str) -> str:
    return hashlib.sha256(canonical_entry(at, actor, kind, subject, body, previous)).hexdigest()


def _fits(digest: str, at: str, actor: str, kind: str, subject: str, body: str, previous: str) -> bool:
    try:
        value = json.loads(body, parse_float=_refuse)
        return digest == digest_of_entry(at, actor, kind, subject, value, previous)
    except (ValueError, TypeError, RecursionError):  # nothing that `record` writes
        return False


def _refuse(number: str) -> float:
    """9.0 and 9 have the same canonical form; no entry was written with a fraction."""
    raise ValueError(number)
