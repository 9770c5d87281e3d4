"""Everything Signalbox reads from its environment, in one place.

A value that is not set comes from `<SIGNALBOX_HOME>/stack.json`, which `manage.py up` keeps current,
so that a command typed in a second terminal finds the running stack. Nothing else reads a variable of ours.
How to reach a Temporal that is somebody else's, TEMPORAL_TLS* and TEMPORAL_API_KEY among it, the SDK reads by itself:
see `console.temporal_connection`.
"""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent


def read_prices(text: str) -> dict[str, tuple[Decimal, Decimal]]:
    """Return what a million tokens in and out cost, by the model's name. Raises ValueError in words."""
    prices = {}
    for entry in filter(None, (one.strip() for one in text.split(","))):
        name, is_there, amounts = entry.rpartition("=")
        try:
            given, taken = (Decimal(one) for one in amounts.split("/"))
            if not (is_there and name.strip() and 0 <= given < 1_000_000 and 0 <= taken < 1_000_000):
                raise ValueError
        except (ValueError, ArithmeticError):
            raise ValueError(f"SIGNALBOX_PRICES: write {entry!r} as model=in/out, in numbers such as 1.25/10") from None
        prices[name.strip()] = (given, taken)
    return prices


class Environment(BaseSettings):
    """The honoured variables; each field's alias is the variable's name.

    The descriptions are Markdown: `docs.tables` makes the table of docs/settings.md of them. What stands after "Not
    set: " is the default in words, where the field's own value says little.
    """

    model_config = SettingsConfigDict(
        extra="ignore",
        case_sensitive=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a password
    )

    home: Path = Field(
        PROJECT / ".signalbox",
        alias="SIGNALBOX_HOME",
        description="state of the embedded stack, demo accounts, logs, outgoing mail. Not set: `.signalbox`",
    )
    cache: str = Field(
        "",
        alias="SIGNALBOX_CACHE",
        description="the Temporal server's binary, and what `bench.peers` installs. Not set: `~/.cache/signalbox`",
    )
    port: int = Field(8000, alias="PORT", ge=1, le=65535, description="the web page's port")
    url: str = Field(
        "",
        alias="SIGNALBOX_URL",
        description="where people reach the page; reminders link there. Not set: `http://127.0.0.1:<PORT>`",
    )
    secure: bool | None = Field(
        None,
        alias="SIGNALBOX_SECURE",
        description="reached over https alone: Secure cookies, HSTS. Not set: as `SIGNALBOX_URL` begins",
    )
    hsts_seconds: int = Field(
        31_536_000,
        alias="SIGNALBOX_HSTS_SECONDS",
        ge=0,
        description="how long browsers stay with https; `0` says nothing. Not set: one year",
    )
    trusted_proxies: str = Field(
        "",
        alias="SIGNALBOX_TRUSTED_PROXIES",
        description=(
            "addresses or networks whose `X-Forwarded-For` and `-Proto` are believed, comma-separated. Not set: none"
        ),
    )
    debug: bool = Field(False, alias="SIGNALBOX_DEBUG", description="for development")
    secret_key: str = Field(
        "",
        alias="SIGNALBOX_SECRET_KEY",
        description="Django's key; set it when there are several machines. Not set: kept in `<home>/secret-key`",
    )
    allowed_hosts: str = Field(
        "localhost,127.0.0.1,[::1]",
        alias="SIGNALBOX_ALLOWED_HOSTS",
        description="host names that are answered, comma-separated",
    )
    origins: str = Field(
        "", alias="SIGNALBOX_ORIGINS", description="extra trusted origins, comma-separated, with scheme. Not set: none"
    )

    database_url: str = Field(
        "",
        alias="DATABASE_URL",
        description=(
            "`postgresql://user:password@host:5432/name`, with pgvector; TLS as libpq has it: `?sslmode=verify-"
            "full`. Not set: embedded"
        ),
    )
    owner_url: str = Field(
        "",
        alias="SIGNALBOX_OWNER_DATABASE_URL",
        description=(
            "the role that owns the tables, when `DATABASE_URL` names another one; for `migrate`. Not set: embedded"
        ),
    )
    temporal_address: str = Field(
        "",
        alias="TEMPORAL_ADDRESS",
        description="a Temporal server, 1.31.1 or newer, as `host:port`. Not set: embedded",
    )
    temporal_namespace: str = Field(
        "default", alias="TEMPORAL_NAMESPACE", description="its namespace, which has to be there"
    )
    temporal_profile: str = Field(
        "",
        alias="TEMPORAL_PROFILE",
        description="or a profile of the Temporal CLI's file, which names the address. Not set: none",
    )
    temporal_config_file: str = Field(
        "", alias="TEMPORAL_CONFIG_FILE", description="that file, in TOML. Not set: where the CLI keeps it"
    )
    temporal_task_queue: str = Field("signalbox", alias="SIGNALBOX_TASK_QUEUE", description="the workers' task queue")
    prefect_api_url: str = Field(
        "", alias="PREFECT_API_URL", description="`http://host:4200/api`, Prefect 3.8. Not set: embedded"
    )
    prefect_auth_string: str = Field(
        "",
        alias="PREFECT_API_AUTH_STRING",
        repr=False,
        description="how a Prefect server with a password knows us: `user:password`. Not set: none",
    )
    prefect_api_key: str = Field(
        "", alias="PREFECT_API_KEY", repr=False, description="how Prefect Cloud knows us. Not set: none"
    )
    prefect_answer_seconds: float = Field(
        5.0,
        alias="SIGNALBOX_PREFECT_SECONDS",
        ge=1,
        le=60,
        description="how long a page or a refresh waits for Prefect's answer before it says that Prefect is away",
    )

    agents: str = Field(
        "orchestration.agents.support.agent:AGENT",
        alias="SIGNALBOX_AGENTS",
        description=(
            "import paths, comma-separated: `package.module:AGENT`; `manage.py check_agents` loads them. Not "
            "set: `orchestration.agents.support.agent:AGENT`"
        ),
    )
    model: str = Field(
        "",
        alias="SIGNALBOX_MODEL",
        description=(
            "`openai:...`, `anthropic:...` or any `init_chat_model` name; `.uv/bin/uv sync --inexact --extra openai`."
            " Not set: offline"
        ),
    )
    prices: str = Field(
        "",
        alias="SIGNALBOX_PRICES",
        description=(
            "what models cost for a million tokens in and out, comma-separated: `openai:gpt-x=1.25/10`; `*=...` is any "
            "other model's. Not set: no costs are told"
        ),
    )
    currency: str = Field("USD", alias="SIGNALBOX_CURRENCY", description="what the prices are in")
    handbook: Path = Field(
        PROJECT / "examples" / "handbook",
        alias="SIGNALBOX_HANDBOOK",
        description="the folder that the handbook is made from. Not set: `examples/handbook`",
    )
    embedder: str = Field(
        "",
        alias="SIGNALBOX_EMBEDDER",
        description=(
            "what makes vectors of text: `model2vec:/a/folder`, or `openai:...` and any other `init_embeddings` name; "
            "of several, with commas between, the first makes new ones. Not set: the model that ships with `wordllama`"
        ),
    )
    data: Path | None = Field(
        None,
        alias="SIGNALBOX_DATA",
        description=(
            "the file that registers other people's Prefect deployments as datasets and jobs; `manage.py check_data` "
            "checks it. Not set: `data.toml` in the state folder"
        ),
    )
    agent_servers: Path | None = Field(
        None,
        alias="SIGNALBOX_AGENT_SERVERS",
        description=(
            "the file that names LangGraph Agent Servers whose interrupted threads become requests; `manage.py "
            "check_agent_servers` checks it. Not set: `agent_servers.toml` in the state folder"
        ),
    )
    shop_url: str = Field(
        "", alias="SIGNALBOX_SHOP_URL", description="where the support agent's orders are. Not set: the example shop"
    )
    email_folder: Path | None = Field(
        None, alias="SIGNALBOX_EMAIL_FOLDER", description="where messages lie that are not sent. Not set: `<home>/mail`"
    )
    email_from: str = Field(
        "Signalbox <signalbox@localhost>", alias="SIGNALBOX_EMAIL_FROM", description="whose name is on reminders"
    )
    email_url: str = Field(
        "", alias="SIGNALBOX_EMAIL_URL", description="`smtp://user:password@host:587` sends mail. Not set: files"
    )
    audit_head_url: str = Field(
        "",
        alias="SIGNALBOX_AUDIT_HEAD_URL",
        description="takes the audit chain's head by POST, at most once a minute. Not set: none",
    )
    webhook_secret: str = Field(
        "",
        alias="SIGNALBOX_WEBHOOK_SECRET",
        repr=False,
        description=(
            "`whsec_<base64>`, signs webhooks to programs; `manage.py webhook_secret` prints it. "
            "Not set: from Django's key"
        ),
    )
    webhooks_to_private: bool = Field(
        False,
        alias="SIGNALBOX_WEBHOOKS_TO_PRIVATE",
        description="webhooks may go to loopback and private addresses. Not set: `false`, with demo accounts `true`",
    )
    signals: str = Field(
        "",
        alias="SIGNALBOX_SIGNALS",
        description=(
            "which workflows programs may have signalled: `account=namespace/signal` or "
            "`account=namespace/signal/prefix`, with commas between; `*` lets all accounts that are not named "
            "signal any. Not set: an admin confirms each first use, with demo accounts `*`"
        ),
    )
    workflows: str = Field(
        "",
        alias="SIGNALBOX_WORKFLOWS",
        description=(
            "which other workflows operators may look at and send signals, queries and updates to: `namespace` or "
            "`namespace/beginning-of-the-id`, with commas between. Not set: none but those of runs"
        ),
    )
    workflow_messages: str = Field(
        "",
        alias="SIGNALBOX_WORKFLOW_MESSAGES",
        description=(
            "modules, with commas between, each with a list `MESSAGES` of what other workflows take: their forms are "
            "typed then. Not set: they are sent the JSON that is typed"
        ),
    )
    worker_turns: int = Field(
        20,
        alias="SIGNALBOX_WORKER_TURNS",
        ge=1,
        le=500,
        description="how many turns one worker takes at once; each holds a PostgreSQL connection meanwhile",
    )
    worker_cached_workflows: int = Field(
        1000,
        alias="SIGNALBOX_WORKER_CACHED_WORKFLOWS",
        ge=0,
        le=100_000,
        description="how many open workflows one worker keeps in memory, so that it need not replay their histories",
    )
    keep_steps_days: int = Field(
        7,
        alias="SIGNALBOX_KEEP_STEPS_DAYS",
        ge=0,
        le=36_500,
        description="for how many days after a run has closed what its nodes wrote between checkpoints is kept",
    )
    keep_threads_days: int = Field(
        0,
        alias="SIGNALBOX_KEEP_THREADS_DAYS",
        ge=0,
        le=36_500,
        description="for how many days after a run has closed its checkpoints are kept. Not set: for ever",
    )
    audit_days: int = Field(
        365,
        alias="SIGNALBOX_AUDIT_DAYS",
        ge=0,
        le=36_500,
        description="for so many days after a run has closed its checkpoints are never deleted, whatever else is set",
    )
    requests_in_flight: int = Field(
        1000,
        alias="SIGNALBOX_REQUESTS_IN_FLIGHT",
        ge=1,
        description="how many undecided requests, and how many open runs, one account may have",
    )
    web_processes: int = Field(
        0,
        alias="SIGNALBOX_WEB_PROCESSES",
        ge=0,
        description="how many processes `make run` lets answer pages and programs. Not set: one for every two cores",
    )
    heartbeat_seconds: int = Field(
        30,
        alias="SIGNALBOX_HEARTBEAT_SECONDS",
        ge=2,
        description="a turn that is silent for so long is given to another worker",
    )
    least_free_mb: int = Field(
        500,
        alias="SIGNALBOX_LEAST_FREE_MB",
        ge=0,
        description="with less free on the state folder's disk *System* says so",
    )
    faults: bool = Field(False, alias="SIGNALBOX_FAULTS", description="for drills only: fault points are live")

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

    @field_validator("prices")
    @classmethod
    def _are_prices(cls, text: str) -> str:
        read_prices(text)
        return text

    @field_validator("webhook_secret")
    @classmethod
    def _is_a_secret(cls, secret: str) -> str:
        """Refuse, without quoting it, a secret that says how it is written and is not written so."""
        encoded = secret.removeprefix("whsec_").rstrip("=")
        if encoded != secret.rstrip("="):
            try:
                readable = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True) != b""
            except ValueError:
                readable = False
            if not readable:
                raise ValueError("write whsec_ and the base64 of 24 to 64 random bytes")
        return secret

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
        told["PREFECT_API_URL"], in_address = without_credentials(told["PREFECT_API_URL"].rstrip("/"))
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
