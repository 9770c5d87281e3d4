"""What pages make of a kept state: values decoded, secrets hidden, trees, conversations, differences, layouts."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NotRequired, TypedDict
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph, add_messages
from langgraph.types import Send
from pydantic import BaseModel, Field, SecretStr

from orchestration import histories
from orchestration.agents import graphs
from orchestration.agents.registry import agents
from orchestration.agents.runtime import FromGraph
from orchestration.checkpoint_gateway import id_at, moment_of
from orchestration.state import drawing, shape, tree
from orchestration.state.conversation import is_conversation, messages_of
from orchestration.state.difference import differences
from orchestration.state.secrets import Hidden, marks_of
from orchestration.state.values import MASK, read_value


class Card(BaseModel):
    holder: str
    number: SecretStr


@dataclass
class Point:
    x: int


def kept(value: Any) -> Any:
    """Return a value as a page sees it, after LangGraph's own serialiser has kept it."""
    return read_value(*JsonPlusSerializer().dumps_typed(value))


def test_what_the_serialiser_keeps_is_read_as_json() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    value = {"at": moment, "sum": Decimal("1.10"), "id": UUID(int=7), "set": {1}, "point": Point(3), 5: (1, 2)}
    assert kept(value) == {
        "at": moment.isoformat(),
        "sum": "1.10",
        "id": str(UUID(int=7)),
        "set": [1],
        "point": {"x": 3},
        "5": [1, 2],
    }
    assert kept([Send("tools", {"a": 1})]) == [{"node": "tools", "arg": {"a": 1}}]
    assert kept([timedelta(minutes=2), float("nan")]) == ["120 s", "nan"]


def test_a_secret_is_never_read_in_clear() -> None:
    said = json.dumps([kept(Card(holder="Mara", number=SecretStr("4929"))), kept({"key": [SecretStr("4929")]})])
    assert "4929" not in said and said.count(json.dumps(MASK)) == 2 and "Mara" in said


@pytest.mark.parametrize(
    ("kind", "blob"), [("msgpack", b"\xc1"), ("json", b"{"), ("msgpack+aes", b"x"), ("bytes", b"x")]
)
def test_what_cannot_be_read_is_told_in_its_place(kind: str, blob: bytes) -> None:
    assert read_value(kind, blob).startswith("(")


def test_names_that_an_author_marks_hide_what_stands_under_them() -> None:
    hidden = Hidden(("token", "customer.iban"))
    given = {"customer": [{"iban": "DE1", "name": "M"}], "iban": "kept", "deep": {"a": [{"token": {"x": 1}}]}}
    assert hidden.without(given) == {
        "customer": [{"iban": MASK, "name": "M"}],
        "iban": "kept",
        "deep": {"a": [{"token": MASK}]},
    }


class Door(BaseModel):
    host: str
    opener: SecretStr
    spare: list[SecretStr] = []
    by_name: dict[str, SecretStr | None] = {}


class Opened(BaseModel):
    day: str
    doors: list[Door]
    pin: Annotated[int | None, Field(json_schema_extra={"writeOnly": True})] = None


class Stated(TypedDict):
    day: str
    pin: Annotated[int, Field(json_schema_extra={"format": "password"})]
    card: NotRequired[SecretStr]
    talk: Annotated[list[Any], add_messages]


def test_every_way_in_which_an_input_says_secret_is_understood() -> None:
    shared = {"properties": {"card": {"$ref": "#/$defs/Card"}}, "$defs": {"Card": {"format": "password"}}}
    agent = agents()["support"]
    of_model = replace(agent, secrets=("token",), input=Opened, input_schema=None)
    assert sorted(marks_of(of_model)) == ["by_name", "opener", "pin", "spare", "token"]
    assert marks_of(replace(agent, input=FromGraph, input_schema=shared)) == ("card",)
    assert marks_of(replace(agent, input=FromGraph, input_schema={"properties": {"a": {"$ref": "#/$defs/A"}}})) == ()


def test_a_graphs_own_state_may_say_secret() -> None:
    graph = StateGraph(Stated)
    graph.add_node("once", lambda state: {})
    graph.add_edge(START, "once")
    schema = graphs.input_schema_of(graph)
    marks = marks_of(replace(agents()["support"], input=FromGraph, input_schema=schema))
    assert sorted(marks) == ["card", "pin"]
    for odd in ({"properties": {"a": {"anyOf": True}}}, {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": []}):
        assert marks_of(replace(agents()["support"], input=FromGraph, input_schema=odd)) == ()


def test_with_everything_hidden_the_shape_is_left() -> None:
    hidden = Hidden((), everything=True)
    given = {"a": [1, "x", True, None, {"b": 2.5}], "c": {}, "d": ""}
    assert hidden.without(given) == {"a": [MASK, MASK, MASK, None, {"b": MASK}], "c": {}, "d": MASK}
    deep: Any = "secret"
    for _ in range(200):
        deep = [deep]
    assert "secret" not in json.dumps(hidden.without(deep))
    keyed: Any = "secret"
    for number in range(200):
        keyed = {str(number): keyed}
    assert "secret" not in json.dumps(Hidden(("token",)).without({"token": 1, "deep": keyed}))


def test_a_tree_ends_where_it_was_told_to() -> None:
    deep: Any = "end"
    for _ in range(90):
        deep = {"in": deep}
    wide = {str(a): {str(b): list(range(50)) for b in range(50)} for a in range(50)}
    values: list[Any] = [deep, wide, [], {}, None, "x"]
    for value in values:
        found = tree.tree_of(value, name="v", nodes=100)

        def count(node: tree.Node) -> int:
            return 1 + sum(count(branch) for branch in node.branches)

        assert count(found) <= 101


def test_messages_are_a_conversation() -> None:
    call = {"name": "refund", "args": {"order": 1}, "id": "c1", "type": "tool_call"}
    said = kept(
        [HumanMessage("Hi"), AIMessage("", tool_calls=[call]), ToolMessage("no", tool_call_id="c1", status="error")]
    )
    assert is_conversation(said) and not is_conversation([]) and not is_conversation([{"type": "human"}])
    person, model, tool = messages_of(said)
    assert (person.role, person.text) == ("Person", "Hi")
    assert (model.calls[0].name, json.loads(model.calls[0].arguments)) == ("refund", {"order": 1})
    assert tool.is_error and messages_of(said, newest=1)[0].number == 2


def test_differences_name_each_path_once() -> None:
    before = {"a": 1, "gone": "x", "list": [1, 2, 3], "same": {"deep": [True]}, "kind": True}
    after = {"a": 2, "list": [1, 2, 3, 4], "same": {"deep": [True]}, "kind": 1, "new": {"b": None}}
    assert [(one.path, one.kind, one.before, one.after) for one in differences(before, after)] == [
        ("a", "changed", 1, 2),
        ("gone", "removed", "x", None),
        ("list[3]", "added", None, 4),
        ("kind", "changed", True, 1),
        ("new", "added", None, {"b": None}),
    ]


def test_names_with_words_of_the_kept_form_are_told_apart() -> None:
    nodes, edges = shape._read(
        {
            "nodes": ["a to b", "c and d", "c"],
            "edges": ["a to b to c and d, perhaps", "c and a to b to c and d", "x to c"],
        }
    )
    assert ("a to b", "c and d") in edges and ("c", "c and d") in edges
    assert all(name in nodes for edge in edges for name in edge)


def test_a_layout_holds_every_node_apart() -> None:
    nodes = ["a", "b", "c", "d", "e"]
    edges = [
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
        ("d", "a"),
        ("d", "e"),
        ("a", "e"),
        ("a", "a"),
        ("a", "zz"),
    ]
    found = drawing.laid_out(nodes, edges, {})
    assert {box.name for box in found.boxes} == set(nodes) and len(found.ways) == 7
    for one in found.boxes:
        assert one.x >= 0 and one.x + one.width <= found.width and one.y + drawing.HEIGHT <= found.height
        for other in found.boxes:
            is_beside = one.x + one.width <= other.x or other.x + other.width <= one.x
            assert one.name == other.name or is_beside or one.y != other.y
    assert drawing.laid_out([], [], {}).boxes == []


def test_ids_and_moments_belong_together() -> None:
    at = datetime(2026, 11, 29, 1, 2, 3, 456789, tzinfo=UTC)
    assert moment_of(f"{id_at(at)}-8000-000000000000") == at
    assert moment_of("1f0") is None and moment_of(None) is None and moment_of(str(UUID(int=4))) is None


def test_temporals_history_in_evidence_hides_what_stands_in_payloads() -> None:
    def payload(value: Any) -> dict[str, Any]:
        data = base64.b64encode(json.dumps(value, indent=1).encode()).decode()
        return {"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": data}

    plain_one, binary = payload({"order_id": "8801"}), {"metadata": {}, "data": "//79"}
    told = [{"events": [{"input": {"payloads": [payload({"token": "t-1", "n": 1}), plain_one, binary]}}]}]
    hidden = histories._without(Hidden(("token",)), told)
    first, *others = hidden[0]["events"][0]["input"]["payloads"]
    assert json.loads(base64.b64decode(first["data"])) == {"token": MASK, "n": 1}
    assert others == [plain_one, binary]
