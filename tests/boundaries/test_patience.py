"""No test asserts a time: whatever waits, waits as long as `tests.waiting.PATIENCE`, and none sleeps and hopes.

A busy machine is slow, not wrong. A wait is found by what it is called with; a number of seconds below half a minute
is one that a second run beside it can pass. Zero asks and does not wait.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from console.environment import PROJECT

SECONDS = 30
#: what is called with how long it waits, and the place of that; in milliseconds for a browser
WAITS = {"wait_for": 1, "timeout": 0, "join": 0, "wait": 0, "fail_after": 0, "move_on_after": 0}
IN_MILLISECONDS = {"set_default_timeout": 0, "set_default_navigation_timeout": 0, "wait_for_timeout": 0}
NAMES = {"timeout", "timeout_seconds", "patience"}
SLEEP_AT_MOST = 0.5  # seconds between two looks

#: waits that are no patience, each with why
MEANT = {
    "console/test_live_socket.py sleep(60)": "a reader that never takes what it is sent; its sending is cancelled",
    "orchestration/test_budget.py wait(0.2)": "what must not come; nobody waits for it",
    "dataplane/test_search_for_real.py wait(0.02)": "the pause between two questions",
}


def _waits() -> Iterator[tuple[str, str]]:
    """Yield the line where a test waits for less than is right, and the file with the call."""
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        source = path.read_text()
        in_a_browser = "playwright" in source
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call):
                file = str(path.relative_to(PROJECT / "tests"))
                for told in _too_short(node, in_a_browser):
                    yield f"{file}:{node.lineno} {told}", f"{file} {told}"


def _too_short(call: ast.Call, in_a_browser: bool) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    given = {word.arg or "": _number(word.value) for word in call.keywords}
    for word in NAMES & given.keys():
        number = given[word]
        least = SECONDS * 1000 if in_a_browser and name not in ("Client", "request", "get", "post") else SECONDS
        if number is not None and 0 < number < least:
            yield f"{name}({word}={number:g})"
    place = (WAITS | IN_MILLISECONDS).get(name)
    number = _number(call.args[place]) if place is not None and len(call.args) > place else None
    if number is not None and 0 < number < (SECONDS * 1000 if name in IN_MILLISECONDS else SECONDS):
        yield f"{name}({number:g})"
    if name == "sleep" and call.args and (_number(call.args[0]) or 0) > SLEEP_AT_MOST:
        yield f"sleep({_number(call.args[0]):g})"


def _number(node: ast.expr) -> float | None:
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True
    return float(node.value) if is_number else None  # type: ignore[attr-defined]  # a constant is asked for above


def test_whatever_waits_waits_long_enough() -> None:
    found = list(_waits())
    assert not [where for where, call in found if call not in MEANT]
    assert {call for _, call in found} == set(MEANT), "what is not there any more needs no leave"


def test_a_short_wait_would_be_found() -> None:
    for text in ("expect(a).to_have_text('b', timeout=1000)", "page.wait_for_timeout(500)"):
        assert list(_too_short(ast.parse(text, mode="eval").body, True)), text  # type: ignore[arg-type]
    for text in ("thread.join(5)", "time.sleep(1)", "asyncio.timeout(2)", "run(x, timeout=3)"):
        assert list(_too_short(ast.parse(text, mode="eval").body, False)), text  # type: ignore[arg-type]
