"""The chat model of this installation: SIGNALBOX_MODEL, or the offline one."""

from __future__ import annotations

from functools import cache

from langchain_core.language_models import BaseChatModel

from console.environment import environment


@cache
def chat_model() -> BaseChatModel:
    """Return the model, made once per process.

    Raises ImportError naming the extra to install when the provider's package is missing, and ValueError for a
    name that no provider has.
    """
    name = environment().model
    if not name:
        from orchestration.agents.offline_model import OfflineModel

        return OfflineModel()
    from langchain.chat_models import init_chat_model

    return init_chat_model(name, temperature=0, timeout=60, max_retries=2)


def model_name() -> str:
    """Return the name to show: which model speaks, or that none does."""
    return environment().model or "offline (rules, no language model)"
