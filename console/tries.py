"""How often somebody may try a password or a token: counted in the database, for all processes and by its clock.

A try is counted before the password is looked at, so that a hundred at once are a hundred. Three counts stop a
stranger: by account and place, by place, and slowly by account alone. The last would let a stranger lock out whoever
owns the account, so a browser in which the account has signed in before (a signed cookie says so) has a count of its
own and no other.

Names that no account has are counted like accounts, so that the answers are the same, but share a fixed number of rows.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest

from console import callers, ports
from console.devices import device_of
from console.text.stored import can_be_kept

logger = logging.getLogger(__name__)

ACTOR = "sign-in"


@dataclass(frozen=True)
class TryLimit:
    """So many refused tries within so many minutes."""

    tries: int
    minutes: int


LIMITS: Final[dict[str, TryLimit]] = {
    "place": TryLimit(60, 15),
    "pair": TryLimit(10, 15),
    "account": TryLimit(100, 60),
    "device": TryLimit(10, 15),
    "token": TryLimit(60, 15),
    "entries": TryLimit(200, 60),  # entries on the record about refused tries, all together
}
_UNKNOWN_ROWS = 4096  # that names without an account share
_PRUNED_AT_ONCE = 50


@dataclass(frozen=True)
class Count:
    """One row that counts."""

    scope: str
    account: str  # the account's id, `unknown-<n>`, or ""
    place: str  # an address or network, a device's id, or ""


@dataclass(frozen=True)
class Try:
    """One try that was counted. `wait_seconds` is above zero when it may not be made."""

    counts: tuple[Count, ...]
    wait_seconds: int
    user: User | None  # whose account was named
    place: str
    tries: int  # refused ones within the time, this one among them, by the count that looks closest
    at_place: int  # the same from this place, whatever the account; 0 where that is not counted


def begin(request: HttpRequest, username: str) -> Try:
    """Count one try with this name from here, and say whether it may be made."""
    _prune()
    user = _named(username)
    account = str(user.pk) if user else _unknown(username)
    place, device = callers.place_of(request), device_of(request, user)
    if device:
        counts: tuple[Count, ...] = (Count("device", account, device),)
    else:
        counts = (Count("place", "", place), Count("pair", account, place), Count("account", account, ""))
    begun = _count(counts, user, place)
    if begun.wait_seconds:
        _refused(begun, "account.signin_stopped", "too many tries")
    return begun


def refuse(begun: Try, reason: str) -> None:
    """Log a refused try, and record the first of its time; the others are told as a number."""
    _refused(begun, "account.signin_refused", reason)


def accept(begun: Try) -> int:
    """Take the try back, for it was right; return how many wrong ones the same account and place had made before."""
    with transaction.atomic(), connection.cursor() as cursor:
        for count in begun.counts:
            if count.scope in ("pair", "device"):
                cursor.execute(f"DELETE {_WHERE}", _key(count))
            else:
                cursor.execute(f"UPDATE console_signincount SET count = greatest(count - 1, 0) {_WHICH}", _key(count))
    return begun.tries - 1


def begin_token(request: HttpRequest) -> Try:
    """Count one token that nobody has, and say whether the next may be tried."""
    place = callers.place_of(request)
    begun = _count((Count("token", "", place),), None, place)
    if begun.wait_seconds:
        _refused(begun, "token.stopped", "too many tries")
    else:
        _refused(begun, "token.refused", "a token that nobody has")
    return begun


def words(seconds: int) -> str:
    """Return how long that is, in words that are never too short."""
    minutes = -(-seconds // 60)
    return "a minute" if minutes <= 1 else f"{minutes} minutes"


def record(actor: str, kind: str, user: User | None, body: dict[str, Any]) -> None:
    """Write one entry about an account, or about none that there is."""
    subject = f"account:{user.pk}" if user else "account:unknown"
    body = {"account": user.username if user else "", **body}
    ports.record().record(actor=actor[:150], kind=kind, subject=subject, body=body)


_WHICH = "WHERE scope = %s AND account = %s AND place = %s"
_WHERE = f"FROM console_signincount {_WHICH}"
#: A row whose time is over begins anew. Past the limit it no longer counts, and its time goes on.
_ADD = """
INSERT INTO console_signincount AS row (scope, account, place, since, count, told)
VALUES (%s, %s, %s, signalbox_now(), 1, 0)
ON CONFLICT (scope, account, place) DO UPDATE SET
  since = CASE WHEN row.since <= signalbox_now() - %s * interval '1 minute' THEN signalbox_now() ELSE row.since END,
  count = CASE WHEN row.since <= signalbox_now() - %s * interval '1 minute' THEN 1 ELSE row.count + 1 END
RETURNING count, ceil(extract(epoch FROM since + %s * interval '1 minute' - signalbox_now()))::int
"""


def _count(counts: tuple[Count, ...], user: User | None, place: str) -> Try:
    """Count in order, up to the first that says stop: what is stopped here is not held against the next."""
    made: list[Count] = []
    tries = at_place = 0
    with transaction.atomic(), connection.cursor() as cursor:
        for count in counts:
            limit = LIMITS[count.scope]
            cursor.execute(_ADD, [*_key(count), limit.minutes, limit.minutes, limit.minutes])
            number, left = cursor.fetchone()
            made.append(count)
            if count.scope == "place":
                at_place = number
            elif count.scope != "account":
                tries = number
            if number > limit.tries:
                return Try(tuple(made), max(left, 1), user, place, number, at_place)
    return Try(tuple(made), 0, user, place, tries, at_place)


def _key(count: Count) -> list[str]:
    return [count.scope, count.account, count.place]


def _named(username: str) -> User | None:
    """Return the account that the name means, as the sign-in itself reads it: letter case aside."""
    if not username or not can_be_kept(username):
        return None
    found = User.objects.filter(username__iexact=username.strip()[:150]).order_by("pk")[:2]
    exact = [user for user in found if user.username == username]
    return exact[0] if exact else next(iter(found), None)


def _unknown(username: str) -> str:
    digest = hashlib.sha256(username.strip().lower().encode(errors="replace")).digest()
    return f"unknown-{int.from_bytes(digest[:4], 'big') % _UNKNOWN_ROWS}"


def _refused(begun: Try, kind: str, reason: str) -> None:
    """Log it; record the first one and the one that is stopped first. What was typed is told nowhere: it may be a
    password in the wrong field."""
    who = begun.user.username if begun.user else "no account"
    logger.warning("%s for %s from %s: %s (%d)", kind, who, begun.place, reason, begun.tries)
    # The count that stopped it; else that of the account from here, the first that looks at one place alone.
    narrowest = begun.counts[-1 if begun.wait_seconds or len(begun.counts) == 1 else 1]
    limit = LIMITS[narrowest.scope]
    # Of made-up names there is no end, so they are one matter for each place.
    before = begun.tries if begun.user or not begun.at_place else begun.at_place
    if not (before == 1 or (begun.wait_seconds and begun.tries == limit.tries + 1)):
        return
    body = {"from": begun.place, "why": reason, "refused": begun.tries, "minutes": limit.minutes}
    with transaction.atomic():
        if _may_be_recorded():
            record(ACTOR, kind, begun.user, body)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE console_signincount SET told = count {_WHICH}", _key(narrowest))


def _may_be_recorded() -> bool:
    """Return whether the record still takes an entry of a stranger's making; say once that it does not."""
    limit = LIMITS["entries"]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, ["entries", "", "", limit.minutes, limit.minutes, limit.minutes])
        number = cursor.fetchone()[0]
    if number == limit.tries + 1:
        body = {"entries": limit.tries, "minutes": limit.minutes, "why": "the rest is counted and logged only"}
        record(ACTOR, "account.signin_flood", None, body)
    return bool(number <= limit.tries)


def _prune() -> None:
    """Remove rows whose time is over, some at a time, and record how many tries those were that nobody was told of."""
    cases = " ".join(f"WHEN '{scope}' THEN {limit.minutes}" for scope, limit in LIMITS.items())
    over = f"since <= signalbox_now() - (CASE scope {cases} ELSE 60 END) * interval '1 minute'"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM console_signincount WHERE id = ANY(ARRAY(SELECT id FROM console_signincount WHERE {over} "
            f"ORDER BY since LIMIT {_PRUNED_AT_ONCE} FOR UPDATE SKIP LOCKED)) "
            "RETURNING scope, account, place, count, told"
        )
        gone = [row for row in cursor.fetchall() if row[0] in ("pair", "device", "token") and row[3] > row[4] > 0]
    if not gone:
        return
    users = User.objects.in_bulk([int(account) for _, account, *_ in gone if account.isdigit()])
    for scope, account, place, count, _ in gone:
        with transaction.atomic():
            if _may_be_recorded():
                kind = "token.refused" if scope == "token" else "account.signin_refused"
                user = users.get(int(account)) if account.isdigit() else None
                body = {
                    "from": "a known device" if scope == "device" else place,
                    "why": "all of that time",
                    "refused": count,
                    "minutes": LIMITS[scope].minutes,
                }
                record(ACTOR, kind, user, body)
