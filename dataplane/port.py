"""What the data plane answers to the other apps. See `console.ports`."""

from __future__ import annotations

from console.contracts import Contracts
from dataplane.contracts import CONTRACTS
from dataplane.currency import told as told
from dataplane.currency import told_of_all as told_of_all


def contracts() -> Contracts:
    return CONTRACTS
