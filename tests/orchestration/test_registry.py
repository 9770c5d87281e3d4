"""Names of agents and tools: whatever a column or an address cannot hold is refused in words, before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestration.agents.registry import agents, check_names


@pytest.mark.parametrize("name", ["", "a" * 101, "a/b", "a b", "-a", "a\n", "é", "a?b", "\ud800"])
def test_an_agent_whose_runs_would_have_no_address_is_refused(name: str) -> None:
    with pytest.raises(ImportError, match="An agent cannot be called"):
        check_names(replace(agents()["support"], name=name))


@pytest.mark.parametrize("name", ["", "t" * 101, "a\x00b", "a\nb", "\udc00"])
def test_a_tool_whose_name_cannot_be_kept_is_refused_with_its_agent(name: str) -> None:
    agent = agents()["support"]
    with pytest.raises(ImportError, match="The agent support cannot have a tool called"):
        check_names(replace(agent, tools=(replace(agent.tools[0], name=name),)))


def test_the_longest_names_are_taken() -> None:
    agent = agents()["support"]
    check_names(replace(agent, name="a" * 100, tools=(replace(agent.tools[0], name="é" * 100),)))
