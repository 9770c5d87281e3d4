"""The one error of the shop."""

from __future__ import annotations


class Refusal(Exception):
    """The shop will not do this; `status` is the HTTP status, `sentence` what the caller is told."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
