"""How the parts are: each is asked what it is for. Postgres takes a write, the engines a call (through their apps).

Our processes say by their heartbeats whether they can work, not only that they live. Every question runs beside the
request (`console.probes`), so the report is there in time however many parts hang, and strangers who ask again and
again ask the engines nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import Error, connection, transaction
from django.db.models import Q

from console import ports, roles, set_up
from console.app_role import loose_record
from console.clock import DatabaseNow, database_now
from console.environment import environment
from console.live.announce import announce
from console.models import PartHeartbeat
from console.ports import HealthCheck, PartHealth, ShownFinding
from console.probes import Known, Probe

OUR_PROCESSES = ("worker", "relay", "flows")
SILENT_AFTER = timedelta(seconds=15)  # three missed heartbeats
KEPT_SECONDS = 2.0  # an answer counts so long for everybody who asks
WAIT_SECONDS = 1.5  # the longest that a report waits for answers
DEADLINE_SECONDS = 4.0  # a question that waited longer is answered by that


@dataclass(frozen=True)
class Beat:
    """One heartbeat as it was read."""

    part: str
    instance: str
    ok: bool
    detail: str
    last_seen_at: datetime


@dataclass(frozen=True)
class Database:
    """What Postgres answered; `away` and `fault` are sentences, empty when all is well."""

    away: str = ""  # it cannot be reached
    fault: str = ""  # it can, and still does not do what it is for
    version: str = ""
    loose: str = ""  # what the app's role could do and should not
    now: datetime | None = None  # its clock
    beats: list[Beat] = field(default_factory=list)
    somebody_decides: bool = True
    findings: list[ShownFinding] = field(default_factory=list)  # of the whole installation


def beat(part: str, detail: str = "", *, ok: bool = True) -> None:
    """Say that this process is alive, and whether it can do its work. Called every 5 s by each of our processes."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    with connection.cursor() as cursor:  # one statement: a row that is locked first makes others wait for us
        cursor.execute(_BEAT, [part, instance, detail[:300], ok])


_BEAT = """
INSERT INTO console_partheartbeat (part, instance, detail, ok, last_seen_at) VALUES (%s, %s, %s, %s, signalbox_now())
ON CONFLICT (part, instance)
DO UPDATE SET detail = excluded.detail, ok = excluded.ok, last_seen_at = excluded.last_seen_at
"""


def forget(part: str) -> None:
    """Take this process's heartbeat away: it stopped in good order."""
    PartHeartbeat.objects.filter(part=part, instance=f"{socket.gethostname()}:{os.getpid()}").delete()


def report(wait: float = WAIT_SECONDS) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and `{"status", "parts"}` as `GET health` promises them, after `wait` seconds at most."""
    database = _database_probe()
    engines = {part: _engine_probe(check) for part, check in ports.health_checks().items()}
    until = time.monotonic() + wait
    probes: list[Probe[Any]] = [database, *engines.values()]
    for probe in probes:
        probe.start(KEPT_SECONDS)
    for probe in probes:
        probe.wait(until - time.monotonic())
    known = database.known()
    told = known.answer
    if told is None or told.away or known.waiting > DEADLINE_SECONDS:
        words = told.away if told is not None and told.away else f"PostgreSQL does not answer within {wait:g} s"
        return 503, {"status": "degraded", "parts": {"postgres": _part(False, words, _postgres_address())}}
    assert told.now is not None
    clock = Clock(told.now, known.answered_at)
    detail = " ".join(filter(None, (f"PostgreSQL {told.version}.", told.fault, told.loose)))
    parts = {"postgres": _part(not told.fault, detail, _postgres_address(), clock.at(known.answered_at))}
    parts |= {name: _set_up(name) or _engine(probe.known(), clock) for name, probe in engines.items()}
    parts |= _processes(told.beats, told.now)  # as old as when they were read: an old answer proves no silence
    # Degraded still takes clicks and delivers them later. Before any of our processes was here, it is starting.
    otherwise = "degraded" if told.beats else "starting"
    status = "ok" if all(part["ok"] for part in parts.values()) else otherwise
    return 200, {"status": status, "parts": parts, "findings": told.findings}


@dataclass(frozen=True)
class Clock:
    """The database's clock, read once: what this process's own says is not asked."""

    then: datetime
    read_at: float  # monotonic seconds

    def at(self, monotonic: float) -> datetime:
        return self.then + timedelta(seconds=monotonic - self.read_at)


#: what the absence of a part means for people; a Postgres that is away is missing here: then there is no page
CONSEQUENCES = {
    "postgres": "The database does not take everything that is to be kept: decisions may be refused. See System.",
    "temporal": "Temporal is away: decisions are recorded and delivered when it is back.",
    "worker": "No worker is at work: runs stand still until one is back. Decisions are recorded.",
    "relay": "The relay is away: decisions are recorded and delivered when it is back.",
    "prefect": "Prefect is away or still starting: agents go on reading the current data, refreshes wait.",
    "flows": "The flow process is away or still starting: refreshes wait.",
}
_MEANWHILE = "Everything that does not need it works already."
NOBODY_DECIDES = (
    "Nobody can decide: no active account has the role reviewer or admin. "
    "An admin of the server gives one with `manage.py createsuperuser`."
)
#: one absence that explains others hides them: without Temporal no worker and no relay works, without Prefect no flow
_EXPLAINED = {"temporal": ("worker", "relay"), "prefect": ("flows",)}
_NOTICE_SECONDS = 3.0
_FIRST_LOOK_SECONDS = 0.2  # the longest that a page waits for answers, when nobody has looked for a while
_noticed: tuple[float, list[str]] = (float("-inf"), [])


def notices() -> list[str]:
    """Return what people should know of the installation and of absent parts; looked up every 3 s per process at most.

    Waits only after a quiet time, whose answers say nothing of now; a part that was not asked yet is not told of.
    """
    global _noticed
    if time.monotonic() - _noticed[0] > _NOTICE_SECONDS:
        is_old = time.monotonic() - _database_probe().known().answered_at > SILENT_AFTER.total_seconds()
        _, found = report(wait=_FIRST_LOOK_SECONDS if is_old else 0)
        absent = [part for part in CONSEQUENCES if _is_absent(found["parts"].get(part))]
        hidden = {explained for part in absent for explained in _EXPLAINED.get(part, ())}
        sentences = [_consequence(part) for part in absent if part not in hidden]
        told = [finding["sentence"] for finding in found.get("findings", [])]
        told += [] if somebody_decides() else [NOBODY_DECIDES]
        _noticed = (time.monotonic(), [*told, *sentences])
    return _noticed[1]


def _consequence(part: str) -> str:
    told = set_up.words(environment().home, part)
    return f"{part.capitalize()} is set up for the first time: {told}. {_MEANWHILE}" if told else CONSEQUENCES[part]


def _is_absent(part: PartHealth | None) -> bool:
    return part is not None and not part["ok"] and part.get("detail") != NOT_ASKED


def somebody_decides() -> bool:
    """Return whether anybody who may decide has an active account, as it was at the last look."""
    told = _database_probe().known().answer
    return told is None or told.somebody_decides


@dataclass(frozen=True)
class Seen:
    """How everything was at one look."""

    well: dict[str, bool] = field(default_factory=dict)  # part -> whether it is well: what every page tells of
    words: tuple[Any, ...] = ()  # what the System page says besides


def announce_changes(before: Seen) -> Seen:
    """Tell open pages what has changed since `before`; return how everything is now. One relay or several call it.

    Each page tells which parts are away (`health`), and the System page what they say of themselves (`system`).
    """
    now = look()
    if topics := changed(before, now):
        announce(*topics)
    return now


def look() -> Seen:
    """Look at all that the System page tells of. No part may have been asked longer ago than KEPT_SECONDS."""
    status, found = report()
    well = {part: health["ok"] for part, health in found["parts"].items()} | {"somebody decides": somebody_decides()}
    if status != 200:
        return Seen(well)
    told = tuple((part, health.get("detail"), health.get("address")) for part, health in found["parts"].items())
    stranded = tuple((one.approval_id, one.sentence) for one in ports.requests().stranded_now())
    runs = ports.runs()
    return Seen(well, (found["status"], told, runs.stuck_count(), stranded, runs.waiting_signals()))


def is_waiting(found: dict[str, Any]) -> bool:
    """Return whether the report lacks an answer that is on its way: nothing changes then that could be announced."""
    return any(part.get("detail") in (NOT_ASKED, NO_ANSWER_YET) for part in found["parts"].values())


def changed(before: Seen, now: Seen) -> tuple[str, ...]:
    """Return the topics that open pages are to be told of."""
    if now.well != before.well:
        return ("health", "system")
    return ("system",) if now.words != before.words else ()


def relay_tells() -> bool:
    """Return whether a relay lives, which tells open pages of every change. One query. Raises what Postgres raises."""
    newest = PartHeartbeat.objects.filter(part="relay", last_seen_at__gt=DatabaseNow() - SILENT_AFTER)
    return newest.exists()


def look_again() -> None:
    """Have the parts asked before this page is drawn: somebody was told that one has come or gone."""
    global _noticed
    if time.monotonic() - _noticed[0] > KEPT_SECONDS:
        report()
        _noticed = (float("-inf"), [])


# The questions.


@cache
def _database_probe() -> Probe[Database]:
    return Probe(_ask_database, lambda told: not told.away and not told.fault)


@cache
def _engine_probe(check: HealthCheck) -> Probe[PartHealth]:
    """Return the one probe that asks this check, however often it is asked for."""

    def ask() -> PartHealth:
        try:
            return check()
        except Exception as exc:  # noqa: BLE001  whatever keeps it from answering is what there is to tell
            return _part(False, f"could not be asked: {type(exc).__name__}: {exc}"[:300])

    return Probe(ask, lambda part: part["ok"])


def _ask_database() -> Database:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT split_part(version(), ' ', 2)")
            version = cursor.fetchone()[0]
        beats = _beats()
        told = {
            "version": version,
            "now": database_now(),
            "loose": loose_record(),
            "beats": beats,
            "somebody_decides": _somebody_decides(),
            "findings": ports.runs().findings(),
        }
    except Error as exc:
        return Database(away=f"PostgreSQL cannot be reached: {_first_line(exc)}")
    return Database(fault=_write_fault() or _disk_fault(environment().home), **told)


def _write_fault() -> str:
    """Write one row and keep it; say in a sentence what is wrong when that does not go."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_BEAT, ["postgres", socket.gethostname(), "writes", True])
    except Error as exc:
        return f"It takes no writes: {_first_line(exc)}."
    return ""


def _disk_fault(folder: Path) -> str:
    """Say in a sentence when little is left on the disk of the state folder; "" when there is enough."""
    least = environment().least_free_mb
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free // 1_000_000
    return f"Only {free:,} MB are free in {folder}, less than {least:,} MB." if free < least else ""


def _somebody_decides() -> bool:
    can = Q(groups__name__in=roles.PERMISSIONS["decide"]) | Q(is_superuser=True)
    return User.objects.filter(can, is_active=True).exists() or not User.objects.exists()


def _beats() -> list[Beat]:
    rows = PartHeartbeat.objects.filter(part__in=OUR_PROCESSES, last_seen_at__gt=database_now() - timedelta(days=1))
    return [Beat(row.part, row.instance, row.ok, row.detail, row.last_seen_at) for row in rows]


# The answers in words.

NOT_ASKED, NO_ANSWER_YET = "not asked yet", "has not answered yet"


def _set_up(name: str) -> PartHealth | None:
    told = set_up.words(environment().home, name)
    return _part(False, f"is set up for the first time: {told}") if told else None


def _engine(known: Known[PartHealth], clock: Clock) -> PartHealth:
    """Return the engine's own words, with since when it is away, or that it does not answer."""
    told = known.answer
    seen_at = clock.at(known.good_at) if known.good_at is not None else None
    if known.waiting > DEADLINE_SECONDS:
        since = clock.at(time.monotonic() - known.waiting)
        return _part(False, _since("does not answer", since), told["address"] if told else None, seen_at)
    if told is None:
        return _part(False, NOT_ASKED if known.waiting < WAIT_SECONDS else NO_ANSWER_YET)
    if told["ok"]:
        return {**told, "last_seen_at": seen_at.isoformat() if seen_at else None}
    words = told["detail"] if known.bad_since is None else _since(told["detail"], clock.at(known.bad_since))
    return _part(False, words, told["address"], seen_at)


def _since(words: str, moment: datetime) -> str:
    return f"{words} (since {moment.astimezone(UTC):%d %b %H:%M:%S} UTC)"


def _processes(beats: list[Beat], now: datetime) -> dict[str, PartHealth]:
    """Tell of each of our processes by its newest heartbeats: it is well when one of them can work."""
    found: dict[str, PartHealth] = {}
    for part in OUR_PROCESSES:
        rows = sorted((row for row in beats if row.part == part), key=lambda row: row.last_seen_at, reverse=True)
        alive = [row for row in rows if now - row.last_seen_at < SILENT_AFTER]
        able = [row for row in alive if row.ok]
        if able:
            count = f"{len(able)} processes. " if len(able) > 1 else ""
            others = len(alive) - len(able)
            unable = f"; {others} more cannot work: {next(row.detail for row in alive if not row.ok)}" if others else ""
            detail = count + (able[0].detail or "alive") + unable
            found[part] = _part(True, detail, able[0].instance, able[0].last_seen_at)
        elif alive:
            found[part] = _part(False, alive[0].detail, alive[0].instance, alive[0].last_seen_at)
        elif rows:
            found[part] = _part(False, "silent", rows[0].instance, rows[0].last_seen_at)
        else:
            found[part] = _part(False, "not seen yet")
    return found


def _part(ok: bool, detail: str, address: str | None = None, last_seen_at: datetime | None = None) -> PartHealth:
    moment = last_seen_at.isoformat() if last_seen_at else None
    return {"ok": ok, "detail": detail, "address": address, "last_seen_at": moment}


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")


def _postgres_address() -> str:
    return f"{settings.DATABASES['default']['HOST']}:{settings.DATABASES['default']['PORT']}"
