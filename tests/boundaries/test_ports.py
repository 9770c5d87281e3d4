"""The ports of `console.ports`: each is plugged in by one app and has a double; nothing else is bound late."""

from __future__ import annotations

import ast
import inspect
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import pytest

from console import ports
from console.ports import NobodyAnswers, PluggedInTwice, Port, SharedPort
from tests.boundaries.test_imports import OUR_CODE, PROJECT, _loaded_after
from tests.fake_ports import Doubles

PORTS = {name: port for name, port in vars(ports).items() if isinstance(port, Port | SharedPort)}
PROTOCOLS = {
    protocol
    for _, protocol in inspect.getmembers(ports, inspect.isclass)
    if protocol.__module__ == "console.ports" and Protocol in protocol.__bases__
}
#: what may import by a name that it was given: agents and what workflows take, both named in settings, and Django's
#: engine of sessions
BY_NAME = {
    "console/live/consumers.py",
    "orchestration/agents/loading.py",
    "orchestration/agents/second_reading.py",
    "orchestration/messages/known.py",
    "orchestration/pinned_code.py",
}


def test_nothing_is_imported_by_name_but_what_is_set_up() -> None:
    late = {"import_string", "import_module", "__import__", "autodiscover_modules", "get_model"}
    found = {
        str(path.relative_to(PROJECT))
        for path in OUR_CODE
        if "migrations" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.Attribute) and (node.id if isinstance(node, ast.Name) else node.attr) in late
    }
    assert found == BY_NAME


def test_each_port_is_plugged_in_by_one_app_and_only_there() -> None:
    plugged: dict[str, set[str]] = defaultdict(set)
    for path in OUR_CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "plug_in" and isinstance(node.value, ast.Attribute):
                plugged[node.value.attr].add(str(path.relative_to(PROJECT)))
    assert plugged.keys() == PORTS.keys()
    for name, by in plugged.items():
        assert {Path(path).name for path in by} == {"apps.py"}, f"{name} is plugged in by {by}"
        assert len(by) == 1 or isinstance(PORTS[name], SharedPort), f"{name} is plugged in by {by}"


def test_each_protocol_has_one_port_and_each_port_one_double() -> None:
    asked: list[Any] = [port.__orig_class__.__args__[0] for port in PORTS.values()]  # type: ignore[union-attr]
    assert {one for one in asked if one in PROTOCOLS} == PROTOCOLS
    assert len(asked) == len(set(asked))
    assert [field.name for field in fields(Doubles)] == list(PORTS), "tests.fake_ports.Doubles has another list"
    assert [port.name for port in PORTS.values()] == list(PORTS)


def test_every_port_answers_once_django_is_ready() -> None:
    for port in PORTS.values():
        assert port()


def test_a_port_that_nobody_answers_says_so() -> None:
    empty: Port[ports.RecordPort] = Port("record")
    shared: SharedPort[ports.Finder] = SharedPort("palette")
    for port in (empty, shared):
        with pytest.raises(NobodyAnswers, match=f"{port.name}.*django.setup"):
            port()


def test_the_same_app_may_plug_in_again_and_no_other() -> None:
    doubles = Doubles(), Doubles()
    port: Port[ports.RecordPort] = Port("record")
    shared: SharedPort[ports.Finder] = SharedPort("palette")
    for _ in range(2):
        port.plug_in(doubles[0].record)
        shared.plug_in("approvals", doubles[0].palette)
    with pytest.raises(PluggedInTwice, match="record"):
        port.plug_in(doubles[1].record)
    with pytest.raises(PluggedInTwice, match="approvals"):
        shared.plug_in("approvals", doubles[1].palette)
    assert port() is doubles[0].record
    assert shared() == {"approvals": doubles[0].palette}


def test_ports_load_before_django() -> None:
    assert "django" not in _loaded_after("import console.ports")


def test_getting_ready_loads_no_engine() -> None:
    setup = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'console.settings'; import django; django.setup()"
    loaded = _loaded_after(setup)
    assert "orchestration" in loaded
    assert not loaded & {"prefect", "langgraph", "langchain_core", "temporalio"}
