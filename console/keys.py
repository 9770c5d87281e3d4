"""The keys of the pages, in one table: what a button listens to, what stands on it and what the help says.

A key with a `hotkey` is put on its real link or button by the tag `hotkey`; the others are heard by a script, which is
named. Letters act on nothing while somebody types, with a modifier held down, or when they are switched off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Key:
    """One key or a sequence of keys."""

    shown: str  # as on the keyboard; parts by spaces
    words: str
    hotkey: str = ""  # in the words of @github/hotkey
    heard_in: str = ""  # the script that hears it, for a key without a button of its own
    is_helped: bool = True  # it stands in the help


KEYS: Final[dict[str, Key]] = {
    "inbox": Key("G I", "Go to Inbox", "g i"),
    "runs": Key("G R", "Go to Runs", "g r"),
    "batches": Key("G B", "Go to Batches", "g b"),
    "data": Key("G D", "Go to Data", "g d"),
    "team": Key("G T", "Go to Team", "g t"),
    "system": Key("G S", "Go to System", "g s"),
    "palette": Key("Ctrl K", "Search, run a command", "Mod+k"),
    "search": Key("/", "Search in the list", "/"),
    "help": Key("?", "This sheet", "?,Shift+?"),
    "move": Key("J K", "Next, previous in the list", heard_in="lists.js"),
    "select": Key("X", "Select, to decide together", heard_in="lists.js"),
    "next": Key("N", "Open the next request of the list", heard_in="lists.js"),
    "approve": Key("A", "Approve; at high risk Enter decides then", "a"),
    "reject": Key("R", "Reject, asks for a reason", "r"),
    "answer": Key("S", "Answer in place of the tool", "s"),
    "change": Key("E", "Change the arguments", "e"),
    "send": Key("Ctrl Enter", "Send what you are typing", heard_in="typing.js"),
    "leave": Key("Esc", "Leave the box, the text stays", heard_in="typing.js"),
    "back_to_list": Key("N", "Back to the inbox", "n", is_helped=False),
}
