"""Other people's Prefect deployments, as this installation's file of registrations names them. Pure but for that file.

One TOML file, `SIGNALBOX_DATA`, or `data.toml` in the state folder. It is read again when it changes. An entry that is
wrong is left out and told; the others stay. `manage.py check_data` says what is wrong, and asks Prefect as well.

    [datasets.orders]                        # or [jobs.orders]: a job publishes no versions
    title = "Orders of the shop"
    deployment = "load_orders/nightly"       # flow/deployment, as Prefect lists it
    key = "{dataset}:{window}"               # which refresh is the same one; a name in braces is filled in
    window = { every = "day", zone = "Europe/Berlin", missed = "latest" }
    fresh_for = "26h"
    may_start = ["admin", "operator"]
    publishers = ["etl-bot"]                 # service accounts that may tell of versions; left out: every one
    asset = "postgres://store/orders"        # of the assets that the flow tells of, the one that is this dataset

    [datasets.orders.parameters]
    shown = ["window", "mode"]               # left out: all
    fixed = { region = "eu" }
    secret = ["dsn"]                         # besides those that the deployment's schema calls so
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from console.environment import environment
from console.text.plain_json import plain
from dataplane.contents.external import EXTERNAL, External
from dataplane.cron import is_zone
from dataplane.schedules import ScheduleEntry
from dataplane.windows import Days, Hours, WindowPolicy, due_key

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")
_SPAN = re.compile(r"(?P<number>[1-9][0-9]{0,4}) ?(?P<unit>m|h|d)")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_WINDOWS: Final = {"day": 24, "hour": 1, **{f"{hours} hours": hours for hours in (2, 3, 4, 6, 8, 12)}}
_FILLED: Final = ("{dataset}", "{window}")
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=UTC)  # keys of all times are of one length
LONGEST_KEY: Final = 100  # characters; of the column too
Role = Literal["admin", "operator", "reviewer"]


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid")

    every: str = "day"
    zone: str = "UTC"
    missed: Literal["latest", "each"] = "latest"

    @field_validator("every")
    @classmethod
    def _known(cls, every: str) -> str:
        if every not in _WINDOWS:
            raise ValueError(f"must be one of {', '.join(_WINDOWS)}")
        return every

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        if not is_zone(zone):
            raise ValueError("must be a time zone's name, for instance Europe/Berlin")
        return zone

    @property
    def policy(self) -> WindowPolicy:
        return Days(self.zone) if self.every == "day" else Hours(_WINDOWS[self.every], self.zone)


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shown: list[str] | None = None
    fixed: dict[str, Any] = Field(default_factory=dict)
    secret: list[str] = Field(default_factory=list)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=200)
    deployment: str
    key: str = "{window}"
    window: _Window = Field(default_factory=_Window)
    fresh_for: str = "26h"
    may_start: list[Role] = Field(default_factory=lambda: list[Role](["admin"]))
    publishers: list[str] | None = None
    asset: str = ""
    parameters: _Parameters = Field(default_factory=_Parameters)

    @field_validator("deployment")
    @classmethod
    def _flow_and_deployment(cls, name: str) -> str:
        flow, slash, deployment = name.partition("/")
        if not (flow and slash and deployment) or "/" in deployment or set(name) & set("%?#\\"):
            raise ValueError("must be the flow's name, a slash and the deployment's name, as Prefect lists it")
        return name

    @field_validator("key")
    @classmethod
    def _template(cls, key: str) -> str:
        left = key
        for name in _FILLED:
            left = left.replace(name, "")
        if not re.fullmatch(r"[A-Za-z0-9._:+@/-]*", left):
            raise ValueError(f"may hold {' and '.join(_FILLED)}, letters, digits and . _ : + @ / -")
        if "{window}" not in key:
            raise ValueError("must hold {window}: without it there would be one refresh for ever")
        return key

    @field_validator("fresh_for")
    @classmethod
    def _is_span(cls, span: str) -> str:
        if not _SPAN.fullmatch(span):
            raise ValueError("must be a number and a unit, for instance 26h, 90m or 7d")
        return span


@dataclass(frozen=True)
class Registered:
    """One deployment of somebody else's, and what it is here."""

    name: str
    title: str
    is_job: bool  # it publishes no versions
    flow: str
    deployment: str
    key_template: str
    window: WindowPolicy
    takes: Literal["latest", "each"]  # of several missed windows
    fresh_for: timedelta
    may_start: frozenset[str]  # roles
    publishers: frozenset[str] | None  # service accounts; None: every one
    asset: str
    shown: tuple[str, ...] | None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    content: External = EXTERNAL
    schedule: ScheduleEntry | None = None  # none of ours: what stands in Prefect holds until it is edited here
    is_registered: bool = True

    def key(self, moment: datetime) -> str:
        """Return the key of the window that the moment (aware) lies in."""
        return self.key_template.replace("{dataset}", self.name).replace("{window}", self.window.key(moment))


@dataclass(frozen=True)
class Registrations:
    """What the file holds, and what is wrong in it, in sentences."""

    entries: Mapping[str, Registered]
    faults: tuple[str, ...] = ()


def path() -> Path:
    """Return where the registrations are looked for."""
    return environment().data or environment().home / "data.toml"


def load() -> Registrations:
    """Return the registrations as the file has them now; none where there is no file."""
    where = path()
    try:
        stat = where.stat()
    except FileNotFoundError:
        told = f"{where.name}: there is no such file." if environment().data else ""
        return Registrations({}, (told,) if told else ())
    except OSError as exc:
        return Registrations({}, (f"{where.name}: {exc.strerror or exc}",))
    return _read(where, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(where: Path, _changed: int, _size: int) -> Registrations:
    try:
        return parse(where.read_text(encoding="utf-8"), where.name)
    except (OSError, UnicodeDecodeError) as exc:
        return Registrations({}, (f"{where.name}: cannot be read: {exc}",))


def parse(text: str, name: str = "data.toml") -> Registrations:
    """Return what the text registers; what is wrong is left out and told."""
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        return Registrations({}, (f"{name}: {exc}",))
    faults = [
        f"{name}: [{word}] is not known: use [datasets.NAME] or [jobs.NAME]"
        for word in sorted(whole.keys() - set(_KINDS))
    ]
    entries: dict[str, Registered] = {}
    for kind in _KINDS:
        given = whole.get(kind, {})
        if not isinstance(given, dict):
            faults.append(f"{name}: {kind} must be tables, [{kind}.NAME]")
            continue
        for one, values in given.items():
            place = f"{name}: {kind}.{one}"
            if not _NAME.fullmatch(one):
                faults.append(f"{place}: a name is 1 to 50 small letters, digits, - and _")
            elif one in entries:
                faults.append(f"{place}: the name is taken by a dataset")
            else:
                try:
                    made = _entry(one, kind == "jobs", _Entry.model_validate(values))
                    if len(due_key(made.key(_ANY_TIME), made.window, _ANY_TIME)) > LONGEST_KEY:
                        faults.append(f"{place}.key: must be shorter: a key has {LONGEST_KEY} characters at most")
                    else:
                        entries[one] = made
                except ValidationError as exc:
                    faults += [f"{place}.{'.'.join(map(str, error['loc']))}: {_words(error)}" for error in exc.errors()]
    return Registrations(entries, tuple(faults))


_KINDS: Final = ("datasets", "jobs")


def _words(error: Any) -> str:  # Any: pydantic's own TypedDict
    return "is not known" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")


def _entry(name: str, is_job: bool, given: _Entry) -> Registered:
    flow, _, deployment = given.deployment.partition("/")
    span = _SPAN.fullmatch(given.fresh_for)
    assert span is not None  # the model has looked
    return Registered(
        name=name,
        title=given.title or name.replace("_", " ").replace("-", " ").capitalize(),
        is_job=is_job,
        flow=flow,
        deployment=deployment,
        key_template=given.key,
        window=given.window.policy,
        takes=given.window.missed,
        fresh_for=int(span["number"]) * _UNITS[span["unit"]],
        may_start=frozenset(given.may_start),
        publishers=None if given.publishers is None else frozenset(given.publishers),
        asset=given.asset,
        shown=None if given.parameters.shown is None else tuple(given.parameters.shown),
        fixed=plain(given.parameters.fixed),  # TOML knows dates, JSON does not
        secret=frozenset(given.parameters.secret),
    )
