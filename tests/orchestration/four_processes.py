"""One step of a proposal's life, in a process of its own: `proposal`, `page`, `edit` or `effect`.

Reads and writes one JSON object on stdin and stdout: `{number: canonical text, or "told: ..." to the author}`.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.template.loader import render_to_string  # noqa: E402  # Django first

from approvals.proposal.canonical import canonicalise, read_canonical  # noqa: E402
from console.forms import schema_form  # noqa: E402
from console.forms.schema_form import Field, Form  # noqa: E402
from console.forms.schema_form.fields import walk  # noqa: E402
from orchestration.agents.arguments import Unfit, faults_of, read_asked, read_back, schema_of, write_down  # noqa: E402
from tests.html_form import sent_by_a_browser  # noqa: E402
from tests.orchestration.made_models import made  # noqa: E402

TOOL = "made"
TOLD = "told: "


def proposal(number: int, _: str) -> str:
    """Register the tool and read what is asked for with it."""
    model, given, is_unfit = made(number)
    if faults := faults_of(model):
        assert is_unfit, (number, faults)
        return TOLD + faults[0]
    try:
        return read_asked(model, TOOL, given).canonical.decode()
    except Unfit as exc:
        return TOLD + str(exc)


def page(number: int, canonical: str) -> str:
    """Draw the form and send it back as nobody touched it."""
    _, arguments = read_canonical(canonical.encode())
    _, post = _drawn(number, arguments)
    sent = schema_form.read(schema_of(made(number)[0]), arguments, post, prefix="arguments")
    assert sent.errors == [] and not sent.is_touched and sent.ignored == [], (number, sent.errors, sent.ignored)
    return canonicalise(TOOL, sent.value).decode()


def edit(number: int, canonical: str) -> str:
    """Change one field; return the edited bytes, or the same ones when what was typed is not taken."""
    chance = random.Random(number + 1)
    _, before = read_canonical(canonical.encode())
    form, post = _drawn(number, before)
    typeable = [(path, one) for path, one in walk(form.root) if _typed(one, chance) is not None]
    if not typeable:
        return canonical
    path, field = chance.choice(typeable)
    post[field.name] = _typed(field, chance) or ""
    model = made(number)[0]
    sent = schema_form.read(schema_of(model), before, post, prefix="arguments")
    if not sent.is_valid:
        assert sent.errors, number
        return canonical
    others = [json.dumps(_without(one, path, before), sort_keys=True) for one in (before, sent.value)]
    assert others[0] == others[1], (number, path)
    try:
        read = read_asked(model, TOOL, sent.value)
    except Unfit:
        return canonical
    return read.canonical.decode()


def effect(number: int, canonical: str) -> str:
    """Read what was approved, as the tool gets it, and write it down once more."""
    model = made(number)[0]
    return canonicalise(TOOL, write_down(read_back(model, read_canonical(canonical.encode())[1]))).decode()


def _drawn(number: int, arguments: Any) -> tuple[Form, Any]:
    form = schema_form.build(schema_of(made(number)[0]), arguments, prefix="arguments")
    return form, sent_by_a_browser(str(render_to_string("shared/_schema_form.html", {"form": form})))


def _typed(field: Field, chance: random.Random) -> str | None:
    """Return what a person may type into the field, `None` where nothing is typed."""
    match field.kind:
        case "text" | "scalar":
            return chance.choice(["changed", "12.75", "2026-02-28", field.text + "x"])
        case "integer" | "number":
            return chance.choice(["3", "8", "1.5"])
        case "choice":
            return chance.choice(field.choices).token
    return None


def _without(value: Any, path: tuple[str | int, ...], before: Any) -> Any:
    """Return the value without what is at the path, or without the first part on the way that was not there before."""
    step, *rest = path or ("",)
    if not path or not _holds(before, step) or not _holds(value, step):
        return _less(value, step)
    if not rest or not all(isinstance(one[step], dict | list) for one in (value, before)):
        return _less(value, step)  # also where nothing, or no object, was there before
    copy = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    return {**copy, step: _without(copy[step], tuple(rest), before[step])}


def _holds(value: Any, step: str | int) -> bool:
    return step in value if isinstance(value, dict) else isinstance(step, int) and step < len(value)


def _less(value: Any, step: str | int) -> dict[str | int, Any]:
    parts = value if isinstance(value, dict) else dict(enumerate(value))
    return {key: one for key, one in parts.items() if key != step}


STEPS: dict[str, Callable[[int, str], str]] = {"proposal": proposal, "page": page, "edit": edit, "effect": effect}


def main(step: str) -> None:
    found = json.load(sys.stdin)
    done = {n: text if text.startswith(TOLD) else STEPS[step](int(n), text) for n, text in found.items()}
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
