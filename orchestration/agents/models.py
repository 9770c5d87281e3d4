"""The chat model of this installation, or of one agent: SIGNALBOX_MODEL, the agent's own, or the offline one."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.rate_limiters import InMemoryRateLimiter

from console.environment import environment
from orchestration.agents.runtime import Agent, ModelCalls

#: provider in a model's name -> the extra of this project that has its package
EXTRAS: Final = {"openai": "openai", "anthropic": "anthropic", "mistralai": "mistral", "ollama": "ollama"}


def fault_of(agent: Agent) -> str:
    """Say in a sentence why the agent's own model cannot be made, "" when it can or it has none. Nothing is called."""
    if not agent.model:
        return ""
    try:
        model_of(agent)
    except Exception as exc:  # noqa: BLE001  whatever its provider's package raises is what its author has to know
        return f"Its model {agent.model} cannot be made: {' '.join(str(exc).split())[:300]}"
    return ""


def model_of(agent: Agent) -> BaseChatModel:
    """Return the agent's model, made once per process: its own, else the installation's. Raises as `chat_model`."""
    if not agent.model and agent.model_calls == ModelCalls():
        return chat_model()
    return _own(agent.model or environment().model, agent.model_calls, agent.name)


@cache
def chat_model() -> BaseChatModel:
    """Return the installation's model, made once per process.

    Raises ImportError naming the extra to install when the provider's package is missing, and ValueError for a
    name that no provider has.
    """
    return _made(environment().model, ModelCalls())


@cache
def _own(name: str, calls: ModelCalls, agent: str) -> BaseChatModel:
    """Return an agent's, made once: calls per minute are counted for each agent by itself."""
    return _made(name, calls)


def _made(name: str, calls: ModelCalls) -> BaseChatModel:
    if not name:
        from orchestration.agents.offline_model import OfflineModel

        return OfflineModel()
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {"temperature": 0, "timeout": calls.seconds, "max_retries": calls.retries}
    if calls.per_minute is not None:
        options["rate_limiter"] = InMemoryRateLimiter(
            requests_per_second=calls.per_minute / 60, check_every_n_seconds=0.1, max_bucket_size=1
        )
    try:
        made: BaseChatModel = init_chat_model(name, **options)
    except ImportError as exc:
        provider = name.partition(":")[0]
        how = f"`.uv/bin/uv sync --extra {EXTRAS[provider]}`" if provider in EXTRAS else "the package that it names"
        raise ImportError(f"The model {name} needs a package that is not installed: {how}. {exc}") from exc
    return made


def model_name(agent: Agent | None = None) -> str:
    """Return the name to show: which model speaks, or that none does."""
    own = agent.model if agent is not None else ""
    return own or environment().model or "offline (rules, no language model)"
