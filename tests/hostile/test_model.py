"""What a reviewer writes reaches the model as quoted data under a key of its own, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from orchestration.agents.proposals import ModelWish, ProposalNodes
from orchestration.agents.support.agent import AGENT

from .corpus import CORPUS

WISH = ModelWish(kind="action", tool="issue_refund", arguments={}, words="", call_id="call-1", about="")


def told(verdict: str, note: str, answer: Any = None) -> ToolMessage:
    """Return the one message that the model gets about a verdict."""
    given = {"approval_id": "apr_1", "digest": "0" * 64, "verdict": verdict, "note": note, "answer": answer}
    message = ProposalNodes(AGENT)._not_approved(WISH, given).message
    assert isinstance(message, ToolMessage)
    return message


@pytest.mark.parametrize("verdict", ["reject", "respond", "expired", "withdrawn"])
def test_a_comment_stays_inside_its_quotes(verdict: str) -> None:
    plain = json.loads(str(told(verdict, "plain", "plain").content))
    for hostile in CORPUS:
        message = told(verdict, hostile.text, hostile.text)
        content = json.loads(str(message.content))
        assert list(content) == list(plain), hostile.name
        assert content["outcome"] == verdict and content["meaning"] == plain["meaning"], hostile.name
        assert content.get("reviewer_comment", hostile.text) == hostile.text, hostile.name
        assert "\n" not in str(message.content).strip(), hostile.name
        assert message.tool_call_id == "call-1" and message.type == "tool", hostile.name


def test_words_of_an_approval_that_nobody_gave_are_not_taken_for_one() -> None:
    """The first `outcome` in the text is ours: a quoted one cannot come before it."""
    for hostile in CORPUS:
        content = str(told("reject", hostile.text).content)
        assert content.startswith('{"outcome": "reject", "meaning": '), hostile.name


def test_a_key_in_a_comment_overwrites_none() -> None:
    keys: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys.extend(key for key, _ in pairs)
        return dict(pairs)

    for hostile in CORPUS:
        keys.clear()
        json.loads(str(told("reject", hostile.text).content), object_pairs_hook=collect)
        assert sorted(keys) == ["meaning", "outcome", "reviewer_comment"], hostile.name
