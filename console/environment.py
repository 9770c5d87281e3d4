"""Everything Signalbox reads from its environment, in one place.

A value that is not set comes from `<SIGNALBOX_HOME>/stack.json`, which `manage.py up` keeps current,
so that a command typed in a second terminal finds the running stack. Nothing else reads a variable of ours.
How to reach a Temporal that is somebody else's, TEMPORAL_TLS* and TEMPORAL_API_KEY among it, the SDK reads by itself:
see `console.temporal_connection`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """The honoured variables; each field's alias is the variable's name."""

    model_config = SettingsConfigDict(
        extra="ignore",
        case_sensitive=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a password
    )

    home: Path = Field(PROJECT / ".signalbox", alias="SIGNALBOX_HOME")  # state of the embedded stack
    cache: str = Field("", alias="SIGNALBOX_CACHE")  # for the Temporal server's binary; empty: the user's cache folder
    port: int = Field(8000, alias="PORT", ge=1, le=65535)  # the web page's port
    url: str = Field("", alias="SIGNALBOX_URL")  # where people reach the page; empty: this machine and the port
    # Whether people reach the page over https alone; None: as the address above says.
    secure: bool | None = Field(None, alias="SIGNALBOX_SECURE")
    hsts_seconds: int = Field(31_536_000, alias="SIGNALBOX_HSTS_SECONDS", ge=0)  # where secure; 0: not told
    trusted_proxies: str = Field("", alias="SIGNALBOX_TRUSTED_PROXIES")  # comma-separated addresses or networks
    debug: bool = Field(False, alias="SIGNALBOX_DEBUG")
    secret_key: str = Field("", alias="SIGNALBOX_SECRET_KEY")  # empty: kept in <home>/secret-key
    allowed_hosts: str = Field("localhost,127.0.0.1,[::1]", alias="SIGNALBOX_ALLOWED_HOSTS")  # comma-separated
    origins: str = Field("", alias="SIGNALBOX_ORIGINS")  # comma-separated, with scheme; extra trusted origins

    database_url: str = Field("", alias="DATABASE_URL")  # postgresql://user:password@host:port/name
    # Of the role that owns the tables, where the app works under another one; ask `owner_database_url()`.
    owner_url: str = Field("", alias="SIGNALBOX_OWNER_DATABASE_URL")
    temporal_address: str = Field("", alias="TEMPORAL_ADDRESS")  # host:port
    temporal_namespace: str = Field("default", alias="TEMPORAL_NAMESPACE")
    temporal_profile: str = Field("", alias="TEMPORAL_PROFILE")  # of the file below; its address counts
    temporal_config_file: str = Field("", alias="TEMPORAL_CONFIG_FILE")  # TOML; empty: where the Temporal CLI keeps it
    temporal_task_queue: str = Field("signalbox", alias="SIGNALBOX_TASK_QUEUE")
    prefect_api_url: str = Field("", alias="PREFECT_API_URL")  # http://host:port/api
    prefect_auth_string: str = Field("", alias="PREFECT_API_AUTH_STRING", repr=False)  # user:password
    prefect_api_key: str = Field("", alias="PREFECT_API_KEY", repr=False)

    agents: str = Field("orchestration.agents.support.agent:AGENT", alias="SIGNALBOX_AGENTS")  # comma-separated
    model: str = Field("", alias="SIGNALBOX_MODEL")  # e.g. openai:gpt-5; empty: the offline model
    handbook: Path = Field(PROJECT / "examples" / "handbook", alias="SIGNALBOX_HANDBOOK")  # its documents
    shop_url: str = Field("", alias="SIGNALBOX_SHOP_URL")  # the example shop
    email_folder: Path | None = Field(None, alias="SIGNALBOX_EMAIL_FOLDER")  # None: <home>/mail
    email_from: str = Field("Signalbox <signalbox@localhost>", alias="SIGNALBOX_EMAIL_FROM")  # of reminders
    email_url: str = Field("", alias="SIGNALBOX_EMAIL_URL")  # smtp://user:password@host:port; empty: files
    audit_head_url: str = Field("", alias="SIGNALBOX_AUDIT_HEAD_URL")  # takes the audit chain's head by POST
    webhook_secret: str = Field("", alias="SIGNALBOX_WEBHOOK_SECRET")  # empty: follows from the secret key
    webhooks_to_private: bool = Field(False, alias="SIGNALBOX_WEBHOOKS_TO_PRIVATE")  # addresses inside may be called
    signals: str = Field("", alias="SIGNALBOX_SIGNALS")  # account=namespace/signal[/prefix], ..., or *
    requests_in_flight: int = Field(1000, alias="SIGNALBOX_REQUESTS_IN_FLIGHT", ge=1)  # of one account
    heartbeat_seconds: int = Field(30, alias="SIGNALBOX_HEARTBEAT_SECONDS", ge=2)  # a silent turn is given up after it
    least_free_mb: int = Field(500, alias="SIGNALBOX_LEAST_FREE_MB", ge=0)  # below it the disk counts as nearly full
    faults: bool = Field(False, alias="SIGNALBOX_FAULTS")  # drills only: fault points are live

    @field_validator("database_url", "owner_url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        """Refuse, without quoting it, what every process would stumble over later, and might write into its log."""
        try:
            parts = urlsplit(url)
            readable = not url or (parts.scheme in ("postgresql", "postgres") and (parts.port or 5432) > 0)
        except ValueError:
            readable = False
        if not readable:
            raise ValueError(
                "write postgresql://user:password@host:port/name; in a password, / is %2F, @ is %40, : is %3A, % is %25"
            )
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)


_FROM_STACK = {
    "DATABASE_URL": "database_url",
    "TEMPORAL_ADDRESS": "temporal_address",
    "TEMPORAL_NAMESPACE": "temporal_namespace",
    "PREFECT_API_URL": "prefect_api_url",
    "SIGNALBOX_SHOP_URL": "shop_url",
}


Engine = Literal["postgres", "temporal", "prefect"]
#: any of these in the environment says that Temporal is somebody else's
TEMPORAL_ELSEWHERE: Final = ("TEMPORAL_ADDRESS", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE")


def without_credentials(url: str) -> tuple[str, str]:
    """Return an address without the user and password in it, and these as "user:password", "" when there are none."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, ""
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=place).geturl(), f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def _stack(home: Path) -> dict[str, Any]:
    """Return what the running stack says of itself, `{}` when there is none."""
    try:
        stack: dict[str, Any] = json.loads((home / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return stack


def _stack_values(given: Environment, home: Path) -> dict[str, Any]:
    """Return what the running stack knows and the environment does not say."""
    stack = _stack(home)
    named = {name for name in TEMPORAL_ELSEWHERE if _field(name) in given.model_fields_set}
    return {
        name: stack[key]
        for name, key in _FROM_STACK.items()
        if stack.get(key)
        and _field(name) not in given.model_fields_set
        and not (named and name.startswith("TEMPORAL_"))  # a profile's address and namespace belong together
    }


@cache
def environment() -> Environment:
    """Return the environment, read once per process."""
    given = Environment()
    home = given.home.expanduser().absolute()
    told = given.model_dump(exclude_unset=True, by_alias=True) | _stack_values(given, home) | {"SIGNALBOX_HOME": home}
    if told.get("PREFECT_API_URL"):
        told["PREFECT_API_URL"], in_address = without_credentials(told["PREFECT_API_URL"])
        if in_address:
            told.setdefault("PREFECT_API_AUTH_STRING", in_address)
    return Environment(**told)


def is_embedded(engine: Engine) -> bool:
    """Return whether the engine that is used is the stack's own, for which nobody's keys and certificates are meant."""
    given = environment()
    stack = _stack(given.home)
    used = {
        "postgres": ("database_url", given.database_url),
        "temporal": ("temporal_address", given.temporal_address),
        "prefect": ("prefect_api_url", given.prefect_api_url),
    }
    key, address = used[engine]
    return engine in stack.get("pids", ()) and stack.get(key) == address


def owner_database_url() -> str:
    """Return the address under which tables are made and changed, "" when the app's own role does that too.

    Read when asked, by the commands that migrate: no process that only works holds the owner's password. What the
    stack says counts for the stack's own database only.
    """
    given = environment()
    if given.owner_url:
        return given.owner_url
    stack = _stack(given.home)
    return str(stack.get("owner_database_url") or "") if stack.get("database_url") == given.database_url else ""


def _field(alias: str) -> str:
    return next(name for name, field in Environment.model_fields.items() if field.alias == alias)
