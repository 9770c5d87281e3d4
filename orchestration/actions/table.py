"""The actions that there are, in the order in which a run's page offers them."""

from __future__ import annotations

from typing import Final

from orchestration.actions import (
    ask_again,
    cancel,
    end,
    fail_activity,
    fork,
    hand_over,
    message,
    pause,
    raise_limits,
    resend,
    reset,
    resume,
    retry_now,
)
from orchestration.actions.base import Action

ACTIONS: Final[dict[str, Action]] = {
    one.name: one
    for one in (
        retry_now.ACTION,
        resume.ACTION,
        pause.ACTION,
        raise_limits.ACTION,
        resend.ACTION,
        hand_over.ACTION,
        ask_again.ACTION,
        reset.ACTION,
        fork.ACTION,
        fail_activity.ACTION,
        message.QUERY,
        message.SIGNAL,
        message.UPDATE,
        cancel.ACTION,
        end.ACTION,
    )
}
