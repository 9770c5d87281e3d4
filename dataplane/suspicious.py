"""What a person should look at in a document: text that hides, or that speaks to a model instead of to people.

A flag changes nothing and refuses nothing. Documents are data to every agent; what an agent may do is decided by its
policy and by people, whatever a document says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Co", "Cn"})
_LAYOUT: Final = frozenset("\n\t\r\u00ad\u200c\u200d\ufeff")  # soft hyphens and joiners stand in honest languages
#: patterns, each with words of which a text in ASCII that it finds holds one: looking for a word takes a hundredth
_SPEAKS: Final = tuple(
    (words, re.compile(pattern, re.IGNORECASE))
    for words, pattern in (
        (
            ("ignore", "disregard", "forget", "override"),
            r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instruction|prompt|rule|polic|guideline|above|previous)",
        ),
        (
            ("you are n", "act as "),
            r"\byou are (?:now|no longer)\b|\bact as (?:an?|the)\b.{0,30}\b(?:assistant|model|admin|system|agent)\b",
        ),
        (("system ", "developer "), r"\b(?:system|developer) (?:prompt|message)\b"),
        (
            ("<", "inst]", "system", "assistant", "developer"),
            r"<\|?(?:im_start|im_end|system|endoftext)\|?>|\[/?INST\]|^\s*#{0,3}\s*(?:system|assistant|developer)\s*:",
        ),
        (
            ("language model", "ai assistant", "llm", "dear "),
            r"\b(?:language model|AI assistant|LLM|dear (?:agent|assistant|model))\b",
        ),
        (
            ("without ", "do not ", "don't ", "never ", "no need to "),
            r"\b(?:without|do not|don't|never|no need to) (?:ask|asking|tell|telling|wait|request)\w*\b.{0,30}"
            r"\b(?:human|person|reviewer|approval|user|supervisor)",
        ),
        (
            ("immediately", "automatically", "silently", "without approval"),
            r"\b(?:approve|refund|pay|transfer|delete)\b.{0,40}"
            r"\b(?:immediately|automatically|silently|without approval)\b",
        ),
    )
)
HIDES: Final = "hidden characters"
SPEAKS: Final = "speaks to a model"


def flags_of(text: str) -> list[str]:
    """Return the flags of a text, none for most."""
    flags, is_ascii, lower = [], text.isascii(), text.lower()
    if not is_ascii and any(_is_hidden(letter) for letter in text):
        flags.append(HIDES)
    # Beyond ASCII a letter may have several small forms, such as the long s: there every pattern is tried.
    if any((not is_ascii or _holds_one(lower, words)) and pattern.search(text) for words, pattern in _SPEAKS):
        flags.append(SPEAKS)
    return flags


def _holds_one(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


def _is_hidden(letter: str) -> bool:
    return letter not in _LAYOUT and unicodedata.category(letter) in _HIDDEN
