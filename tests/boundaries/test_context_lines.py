"""The first line of a fragment is true: it names what the fragment uses, no more and no less, by types that exist."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from django.template import engines
from django.template.base import FilterExpression, Node, NodeList, Template, Variable
from django.template.defaulttags import CsrfTokenNode, ForNode, RegroupNode, WithNode
from django.template.loader import get_template
from django.template.loader_tags import IncludeNode
from django.utils.module_loading import import_string

from console.environment import PROJECT

TEMPLATES = PROJECT / "templates"
FRAGMENTS = sorted(str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("_*.html"))
_BUILT_IN = {"True", "False", "None", "forloop"}
_IN_BRACKETS = re.compile(r"\([^()]*(?:\([^()]*\)[^()]*)*\)")
_TYPE = re.compile(r"\b(?:console|approvals|orchestration|dataplane)(?:\.\w+)+")


def _line(name: str) -> str:
    return (TEMPLATES / name).read_text().partition("#}")[0].removeprefix("{# Context: ")


def _named(line: str) -> set[str]:
    """Return the names of a line like `card (its.Type), note and maybe shown (bool): its meaning. More words.`"""
    names = re.split(r"[.:](?:\s|$)", _IN_BRACKETS.sub("", line))[0]
    words = [piece.split()[0] for piece in re.split(r",|\band maybe\b|\bmaybe\b|\band\b", names) if piece.strip()]
    return set(words) - {"none"}


@cache
def _used_by(name: str) -> frozenset[str]:
    """Return what the template takes from its context, through what it includes too."""
    return frozenset(_in_list(get_template(name).template.nodelist) - _BUILT_IN)  # type: ignore[attr-defined]


def _in_list(nodes: Iterable[Any]) -> set[str]:
    used: set[str] = set()
    made: set[str] = set()  # by a tag, for those after it
    for node in nodes:
        used |= _in_node(node) - made
        made |= {
            name for tag in ("asvar", "target_var", "var_name") if isinstance(name := getattr(node, tag, None), str)
        }
    return used


def _in_node(node: Any) -> set[str]:
    if isinstance(node, CsrfTokenNode):
        return {"csrf_token"}
    if isinstance(node, ForNode):
        inside = _in_list(node.nodelist_loop) - set(node.loopvars)
        return _in_value(node.sequence) | inside | _in_list(node.nodelist_empty)
    if isinstance(node, RegroupNode):
        return _in_value(node.target)  # its expression speaks of the name that it makes
    if isinstance(node, WithNode):
        return _in_value(node.extra_context) | (_in_list(node.nodelist) - set(node.extra_context))
    if isinstance(node, IncludeNode):
        given = _in_value(node.template) | _in_value(node.extra_context)
        included = node.template.var
        if node.isolated_context or not isinstance(included, str) or included in _being_read:
            return given
        _being_read.append(included)  # fragments may include themselves
        try:
            return given | (_used_by(included) - set(node.extra_context))
        finally:
            _being_read.pop()
    parts = {name: part for name, part in vars(node).items() if name not in ("origin", "token", "target_var")}
    return _in_value(parts)


_being_read: list[str] = []


def _in_value(value: Any) -> set[str]:
    """Return the names in whatever a node keeps: expressions, conditions, further nodes."""
    if isinstance(value, FilterExpression):
        arguments = [given for _, all_given in value.filters for is_name, given in all_given if is_name]
        return _in_value(value.var).union(*map(_in_value, arguments))
    if isinstance(value, Variable):
        return {value.lookups[0]} if value.lookups else set()
    if isinstance(value, NodeList):
        return _in_list(value)
    if isinstance(value, Node):
        return _in_node(value)
    if isinstance(value, dict):
        return set().union(*map(_in_value, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_in_value, value))
    # A condition of `if` is a tree of operators with these parts.
    parts = [getattr(value, name, None) for name in ("value", "first", "second")]
    return set().union(*(_in_value(part) for part in parts if part is not None and not isinstance(part, str)))


def test_a_fragment_names_each_thing_that_it_uses() -> None:
    assert FRAGMENTS
    unnamed = {name: sorted(_used_by(name) - _named(_line(name))) for name in FRAGMENTS}
    assert {name: names for name, names in unnamed.items() if names} == {}


def test_a_fragment_uses_each_thing_that_it_names() -> None:
    unused = {name: sorted(_named(_line(name)) - _used_by(name)) for name in FRAGMENTS}
    assert {name: names for name, names in unused.items() if names} == {}


def test_the_types_that_a_fragment_names_are_there() -> None:
    gone = []
    for name in FRAGMENTS:
        for dotted in _TYPE.findall(_line(name)):
            try:
                import_string(dotted)
            except ImportError:
                gone.append(f"{name}: {dotted}")
    assert gone == []


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("{{ a.b|default:c }}", {"a", "c"}),
        ("{% if a and not b.c %}{{ d }}{% elif e == f %}{% endif %}", {"a", "b", "d", "e", "f"}),
        ("{% for a in b %}{{ a }}{{ forloop.counter }}{{ c }}{% empty %}{{ d }}{% endfor %}", {"b", "c", "d"}),
        ("{% with a=b %}{{ a }}{% endwith %}{{ c }}", {"b", "c"}),
        ("{% regroup a by b as c %}{% for d in c %}{{ d.list }}{% endfor %}", {"a"}),
        ("{% url 'x' a as b %}{{ b }}{% csrf_token %}", {"a", "csrf_token"}),
    ],
)
def test_the_reading_of_a_template_finds_its_names(text: str, used: set[str]) -> None:
    made: Template = engines["django"].from_string(text).template  # type: ignore[attr-defined]
    assert _in_list(made.nodelist) - _BUILT_IN == used
