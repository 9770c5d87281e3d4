"""Keeping one request to the outside world waiting, so that a fault can strike in the middle of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

When = Literal["before", "after"]


@dataclass
class Hold:
    """Keeps the first matching request waiting: before anything is done about it, or before it is answered."""

    method: str
    order_id: str
    when: When
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Say that the request is here, and block until it may go on."""
        self.reached.set()
        self.released.wait()  # whoever holds it releases it, at the latest as the stage is taken down
