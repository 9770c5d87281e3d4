"""What is shown is what runs: arguments are read once and written once, or whoever wrote the tool is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from langchain_core.messages import AIMessage
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    FutureDate,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    create_model,
)

from approvals.proposal.canonical import canonicalise, digest_of
from orchestration.agents import arguments, second_reading
from orchestration.agents.arguments import Unfit, faults_of, read_asked, read_back
from orchestration.agents.proposals import ProposalNodes, outcome_question
from orchestration.agents.registry import agents, check_arguments
from orchestration.agents.runtime import Agent, Tool
from orchestration.models import Run
from tests.api_caller import Caller, problem
from tests.orchestration.conftest import go
from tests.orchestration.made_models import AsNumber, Masked, NotPast, Rights, Sorted, Unsorted, counted


def of(kind: Any, default: Any = ...) -> type[BaseModel]:
    return create_model("Made", x=(kind, default))


def tool_with(model: type[BaseModel]) -> Tool:
    return replace(agents()["support"].tools[1], name="pay", arguments=model, render=str)


def agent_with(model: type[BaseModel]) -> Agent:
    return replace(agents()["support"], tools=(tool_with(model),))


class Tree(BaseModel):
    below: list[Tree] = []
    password: SecretStr | None = None


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (of(SecretStr), "x: A secret is written down as stars"),
        (of(dict[str, list[SecretBytes | None]]), r"x\{\}\[\]: A secret"),
        (Tree, "password: A secret"),
        (of(set[str]), "x: A set has no order"),
        (of(frozenset[int] | None, None), "x: A set has no order"),
        (of(FutureDate), "x: Whether this is in the past or future"),
        (of(str, Field(exclude=True)), "x: It is left out"),
        (of(str, Field(validation_alias="in")), "read under one name and written under another"),
        (of(str, Field(serialization_alias="out")), "read under one name and written under another"),
        (of(str, Field(validation_alias=AliasChoices("a", "b"))), "read under one name and written under another"),
        (of(Annotated[int, Field(ge=2**60)]), "x: Whole numbers beyond 2"),
        (of(Literal[9007199254740993]), "x: Whole numbers beyond 2"),
        (of(Annotated[str, PlainSerializer(lambda _: "***")]), "x: This is another value"),
        (of(Annotated[float, PlainSerializer(lambda one: f"{one} EUR")]), "x: What the tool writes down of this"),
        (of(Annotated[str, AfterValidator(counted)]), "x: This is another value"),
        (of(Masked), "x.number: This is another value"),
        (of(int, "1"), "x: This is another value"),
        (AsNumber, "wait: What the tool writes down of this does not fit the tool's own schema"),
        (RootModel[list[int]], "an object with keys"),
    ],
)
def test_what_would_not_run_as_it_was_shown_is_refused_when_the_agent_registers(model: Any, words: str) -> None:
    with pytest.raises(ImportError, match=words) as told:
        check_arguments(agent_with(model))
    assert "The agent support cannot be registered. the tool pay, " in str(told.value)
    with pytest.raises(ImportError, match="its input"):
        check_arguments(replace(agents()["support"], input=model))


def test_a_tool_that_nobody_has_to_approve_takes_what_it_likes() -> None:
    free = replace(tool_with(of(SecretStr)), needs_approval=False)
    check_arguments(replace(agents()["support"], tools=(free,)))


class Drifting(BaseModel):
    on: date
    _made: UUID = PrivateAttr(default_factory=uuid4)


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (of(Any), {"x": float("nan")}, "x: Infinity and not-a-number"),
        (of(str), {"x": "a\x00b"}, "x: It holds a character that cannot be kept"),
        (of(int), {"x": 2**53 + 1}, "x: A whole number beyond 2.53"),
        (of(int), {"x": "9007199254740993"}, "x: A whole number beyond 2.53"),
        (of(dict[str, Any]), {"x": {"a": [1, {"b": 2.1e16}]}}, r"x\.a\.1\.b: A whole number beyond"),
        (of(int), {"x": "many"}, "x: Input should be a valid integer"),
        (of(bytes), {"y": 1}, "x: Field required"),
        # By this process's hash seed a set of two may come back the other way round: then that is what is said.
        (
            Unsorted,
            {"tags": ["a", "b"]},
            "The order of a set is another one in each process|This is another value once it was written down",
        ),
        (NotPast, {"on": "2099-01-01"}, "calls date.today in NotPast.not_past"),
        (Drifting, {"on": "2099-01-01"}, "os.urandom"),
        (of(Rights), {"x": 3}, "x: What the tool writes down of this does not fit the tool's own schema"),
        (of(Annotated[str, AfterValidator(lambda text: 1 // 0)]), {"x": "a"}, "ZeroDivisionError"),
    ],
)
def test_what_would_not_run_as_it_was_shown_is_refused_at_the_proposal(model: Any, given: Any, words: str) -> None:
    with pytest.raises(Unfit, match=words):
        read_asked(model, "pay", given)
    told = go(ProposalNodes(agent_with(model)).propose(calling(given)))
    assert told["wish"] is None
    assert json.loads(told["messages"][0].text)["invalid_arguments"]


def calling(given: Any) -> dict[str, Any]:
    return {"messages": [AIMessage("", tool_calls=[{"name": "pay", "args": given, "id": "1"}])]}


def test_a_validator_that_makes_a_set_and_the_same_of_it_everywhere_is_taken() -> None:
    assert read_asked(Sorted, "pay", {"tags": ["b", "a"]}).arguments == {"tags": ["a", "b"]}


def test_what_a_factory_makes_is_made_once_and_approved() -> None:
    model = create_model(
        "Made", id=(UUID, Field(default_factory=uuid4)), at=(datetime, Field(default_factory=datetime.now))
    )
    assert faults_of(model) == []
    read = read_asked(model, "pay", {})
    assert read_back(model, read.arguments) == read.model
    assert read_asked(model, "pay", read.arguments).canonical == read.canonical


class Sent(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    from_: str = Field(alias="from")
    to: list[str] = []


@pytest.mark.parametrize("given", [{"from": "ana"}, {"from_": "ana"}])
def test_an_argument_is_called_by_its_alias_everywhere(given: dict[str, str]) -> None:
    wish = go(ProposalNodes(agent_with(Sent)).propose(calling(given)))["wish"]
    assert wish["arguments"] == {"from": "ana", "to": []}
    frozen = go(ProposalNodes(agent_with(Sent)).freeze({"wish": wish}))["frozen"]
    assert frozen["digest"] == digest_of(canonicalise("pay", {"from": "ana", "to": []}))
    assert list(frozen["arguments_schema"]["properties"]) == ["from", "to"]
    assert frozen["summary"] == "from_='ana' to=[]"


def test_the_bytes_of_before_are_the_bytes_of_now() -> None:
    """Plain models wrote these bytes before aliases and secrets were thought of."""
    model = create_model("Made", a=(float, ...), b=(str, "é"), c=(date | None, None))
    read = read_asked(model, "pay", {"a": 1})
    assert read.canonical == '{"arguments":{"a":1,"b":"é","c":null},"tool":"pay"}'.encode()


def test_four_processes_with_four_hash_seeds_agree_or_the_author_was_told(how_many_examples: int) -> None:
    asked = in_a_process("proposal", 1, {str(number): "" for number in range(how_many_examples)})
    taken = {number: text for number, text in asked.items() if not text.startswith("told: ")}
    assert len(taken) > how_many_examples / 2
    assert in_a_process("page", 2, taken) == taken
    edited = in_a_process("edit", 3, taken)
    assert sum(edited[number] != taken[number] for number in taken) > len(taken) / 3
    assert in_a_process("effect", 4, taken) == taken
    assert in_a_process("effect", 5, edited) == edited


def in_a_process(step: str, seed: int, found: dict[str, str]) -> dict[str, str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.orchestration.four_processes", step]
    done = subprocess.run(command, input=json.dumps(found), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(json.loads(done.stdout))


def test_no_sentence_tells_the_secret_that_it_is_about() -> None:
    with pytest.raises(Unfit) as told:
        read_asked(of(SecretStr), "pay", {"x": "hunter2"})
    assert "hunter2" not in str(told.value)
    assert arguments._MEND in str(told.value)


def test_the_question_about_an_outcome_can_be_asked_of_the_largest_arguments() -> None:
    deep: Any = "x"
    for _ in range(63):
        deep = [deep]
    canonicalise("pay", {"x": deep})
    wish: Any = {"tool": "pay", "arguments": {"x": deep}, "call_id": "1"}
    asked = outcome_question(wish, "ap_1")
    assert canonicalise(asked["tool"], asked["arguments"])
    assert asked["arguments"]["arguments"] == "The same as those of approval ap_1."


class Started(BaseModel):
    order_id: int
    weight: Any = None


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"order_id": 2**53 + 1}, "input.order_id"),
        ({"order_id": 1, "weight": {"a": [1.0, 1e21]}}, "input.weight.a.1"),
        ({"order_id": 1, "weight": 1e300}, "input.weight"),
    ],
)
def test_a_number_that_would_come_back_as_another_starts_no_run(
    given: Any, path: str, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1e21 was taken, and the run then failed."""
    registered = {"support": replace(agents()["support"], input=Started)}
    monkeypatch.setattr("orchestration.services.agent_named", registered.__getitem__)
    told = problem(Caller(olga).post("runs", {"agent": "support", "input": given}), 422)
    assert [error["path"] for error in told["errors"]] == [path]
    assert "2^53" in told["errors"][0]["message"] and not Run.objects.exists()


def test_that_other_processes_were_too_slow_once_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(second_reading, "SECONDS", 0)
        assert "no answer in time" in second_reading.differs_elsewhere(Sorted, {"tags": ["late"]})
    assert second_reading.differs_elsewhere(Sorted, {"tags": ["late"]}) == ""
