"""Every text of the corpus on the pages of the policy, and wherever a request's page names a rule or a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from pydantic import ValidationError

from approvals import services
from approvals.errors import AlreadyClosed
from approvals.models import Approval, Decision, PolicyVersion, ProposalVersion
from approvals.pages.policy.forms import rule_sections
from approvals.pages.request.card import Card, DecisionLine, LadderStep
from approvals.pages.request.page import Looks
from approvals.people.permissions import Permit
from approvals.policies import words
from approvals.policies.rules import Rule
from approvals.proposal.terms import Terms
from approvals.reading.arguments import argument_rows_of
from approvals.reading.policy_preview import PolicyPreview, PreviewChange, PreviewRow
from approvals.record import audit
from approvals.record.closings import RequestClosing
from approvals.services import Answer
from console.clock import database_now
from console.forms import schema_form

from .conftest import (
    HARMLESS,
    SHOWN,
    TOGETHER,
    Elements,
    Open,
    ReadPage,
    hidden_from_readers,
    name_reviewers,
    not_shown,
    read_with_fields,
)
from .corpus import CORPUS, Hostile

EDIT = reverse("approvals:policy_edit")


def _escaped(char: str) -> str:
    """Write a character as a condition can hold it."""
    return char if " " <= char <= "~" and char not in '"\\' else f"\\U{ord(char):08x}"


def _rule(text: str, place: int, **changes: Any) -> dict[str, Any]:
    """Return a rule that says the text wherever one can be written. With a line break in its name it cannot be used."""
    match = {"tools": [text[:100], f"tool {place}"], "agents": [text[:100], "*"]}
    condition = f'args.v != "{"".join(map(_escaped, text[:90]))}"'
    rule = {"name": text[:80], "match": match, "condition": condition, "people": [text[:100]], "calendar": text[:60]}
    return rule | changes


def _versions(people: list[User], texts: list[str], rules: list[Any]) -> int:
    """Write one old version of each text, an active one, and one that waits; return its number."""
    states = PolicyVersion.State
    now, calendars = database_now(), {text[:60]: {"timezone": text[:60]} for text in texts}
    for number, (by, text) in enumerate(zip(people, texts, strict=True), start=1):
        state = states.REFUSED if number % 2 else states.REPLACED
        PolicyVersion.objects.create(
            version=number, rules=[], state=state, note=text[:500], made_by=by, settled_by=by, settled_at=now
        )
    changed = [rule | {"people": ["somebody"], "condition": ""} for rule in rules]
    for state, held in ((states.ACTIVE, rules), (states.PROPOSED, changed[::-1])):
        number += 1
        PolicyVersion.objects.create(
            version=number, rules=held, calendars=calendars, state=state, note="changed", made_by=people[0]
        )
    return number


def _decided(people: list[User], texts: list[str], open_hostile: Open) -> None:
    """Open a request of each text and approve another one, each in another person's name."""
    for place, (by, text) in enumerate(zip(people, texts, strict=True)):
        open_hostile(text, requested_by_id=by.pk)
        done = open_hostile(text, requested_by_id=by.pk)
        given = Answer("approve", done.version, done.digest)
        services.decide(
            approval_id=done.pk, reviewer=people[place - 1], given=given, circumstances=services.Circumstances("page")
        )


def _pages(admin: Client, open_hostile: Open, texts: list[str]) -> dict[str, ReadPage]:
    """Return the pages by what they are about."""
    rules = [_rule(text, place) for place, text in enumerate(texts)]
    draft = json.dumps({"based_on": 0, "rules": rules, "calendars": {text[:60]: {} for text in texts}})
    usable = [rule | {"calendar": "", "people": []} for rule in rules if _is_usable(rule)]
    ready = json.dumps({"based_on": 0, "rules": usable, "calendars": {}, "note": texts[0][:500]})

    def send(status: int, **sent: str) -> ReadPage:
        response = admin.post(EDIT, sent)
        assert response.status_code == status, read_with_fields(response.content.decode()).text
        return read_with_fields(response.content.decode())

    def read(name: str, *args: int) -> ReadPage:
        return read_with_fields(admin.get(reverse(f"approvals:{name}", args=args)).content.decode())

    with transaction.atomic():
        people = name_reviewers(texts)
        _decided(people, texts, open_hostile)
        number = _versions(people, texts, rules)
        said = {"reason": "\n".join(texts)}
        audit.record(actor="ada", kind="policy.refused", subject=f"policy:{number}", body=said)
        audit.record(actor="ada", kind="policy.refused", subject="policy:1", body=said)
        pages = {
            "policy": read("policy"),
            "waiting": read("policy_version", number),
            "refused": read("policy_version", 1),
            "draft": send(200, draft=draft, do=""),
            "faults": send(422, draft=draft, do="preview"),
            "json": send(422, draft=draft, do="keep-json", json=json.dumps({"rules": rules, "calendars": {}})),
            "preview": send(200, draft=ready, do="preview"),
        }
        transaction.set_rollback(True)
    return pages


@pytest.mark.django_db
def test_no_page_of_the_policy_hides_a_character_or_makes_an_element(ada: User, open_hostile: Open) -> None:
    admin = Client()
    admin.force_login(ada)
    Group.objects.get(name="admin").user_set.add(User.objects.create(username="ivo"))
    plain = [f"quokka {number:02}" for number in range(TOGETHER)]
    listed = [_pages(admin, open_hostile, texts) for texts in (["plain", "other"], HARMLESS, plain)]
    harmless: dict[str, Elements] = {name: set().union(*(one[name].elements for one in listed)) for name in listed[0]}
    often = {name: min(map(page.text.count, plain)) for name, page in listed[-1].items()}
    assert often == {"policy": 9, "waiting": 8, "refused": 1, "draft": 8, "faults": 11, "json": 1, "preview": 3}
    faults = []
    for start in range(0, len(CORPUS), TOGETHER):
        bundle = CORPUS[start : start + TOGETHER]
        for name, page in _pages(admin, open_hostile, [hostile.text for hostile in bundle]).items():
            found = [f"an element {one}" for one in page.elements - harmless[name]]
            for hostile in bundle:
                found += hidden_from_readers(hostile, page)
                found += not_shown(hostile, page.text, _times(hostile, name, often[name])) if _is_short(hostile) else []
            faults += [f"{name}: {fault}" for fault in found]
    assert faults == []


def _is_short(hostile: Hostile) -> bool:
    return len(hostile.text) <= SHOWN


def _times(hostile: Hostile, name: str, often: int) -> int:
    """Return how often a page must show it: less where a condition escapes it, or where no rule can be named so."""
    # The mark of what runs leftward stands behind the whole of a path, or behind a sentence's full stop.
    if hostile.source == "rtl-names" or not _is_usable(_rule(hostile.text, 1)):
        return 0 if name == "json" else 1
    return often if _is_plain(hostile) else often - 2


def _is_plain(hostile: Hostile) -> bool:
    """Return whether JSON holds the text as it is, and a full stop behind it stays outside of what marks say of it."""
    return json.dumps(hostile.text) == f'"{hostile.text}"' and hostile.source != "rtl-names"


def _is_usable(rule: dict[str, Any]) -> bool:
    try:
        Rule.model_validate(rule)
    except ValidationError:
        return False
    return True


def _form(text: str) -> str:
    """Return the page of one rule, each field with a fault."""
    names = [one.name for section in rule_sections({}, (), {}) for one in section.fields]
    several = {name: [text] for name in ("groups", "four_eyes", "verdicts", "escalate_to", "people")}
    rule = {"match": {"kinds": [text], "risks": [text]}, "calendar": text, "outcome": text, "risk": text} | several
    sections = rule_sections(rule, [text], {name: [text] for name in names})
    frame = {"name": "ada", "roles": [], "notices": []}
    context = {"draft": {"text": text}, "place": 0, "name": text, "sections": sections, "is_wrong": True}
    return render_to_string("approvals/policy_rule.html", context | {"frame": frame})


def _rules(text: str) -> str:
    """Return the parts of a version's page: a rule, how one differs, what would change."""
    row = PreviewRow("apr_1", text, "pending", text)
    changes = (PreviewChange(text, 1, (row,)),)
    seen = PolicyPreview(1, 1, changes, changes, (row,), False)
    card = words.RuleCard(text, text, text, "ask", text, (text,))
    differences = [
        words.RuleDifference(text, "changed", (("condition", text, text),)),
        words.RuleDifference(text, "added", card=card),
    ]
    parts: dict[str, dict[str, Any]] = {
        "_policy_card": {"card": card, "place": 1},
        "_policy_differences": {"differences": differences},
        "_policy_seen": {"seen": seen},
    }
    return "".join(render_to_string(f"approvals/{part}.html", context) for part, context in parts.items())


def _calendar(text: str) -> str:
    calendars = [{"name": text, "timezone": text, "lines": [text]}]
    frame = {"name": "ada", "roles": [], "notices": []}
    context = {
        "draft": {"text": text, "based_on": 1},
        "calendars": calendars,
        "errors": [{"path": text, "message": text}],
    }
    return render_to_string("approvals/policy_edit.html", context | {"frame": frame})


def _card(text: str, *, is_open: bool, outcome: Any = "ask") -> Card:
    """Return what a request's page is drawn from, where people and rules have the text for a name."""
    now, person = database_now(), User(username=text)
    approval = Approval(
        tool=text,
        agent=text,
        summary=text,
        policy_version=text,
        risk="low",
        digest="0" * 64,
        canonical=b"{}",
        requested_by=person,
        agent_owners=[text],
        audience=[],
        people=[text],
        needed=2,
        version=2,
        verdicts=["approve", "edit"],
        due_at=now,
        opened_at=now,
        status="pending" if is_open else "decided",
    )
    by = {"by": person, "on_behalf_of": person, "note": text, "verdict": "approve", "at": now}
    votes = [Decision(approval=approval, for_version=version, **by) for version in (1, 2)]
    edited = {"reason": "edited", "made_by": person} if is_open else {"reason": "terms", "detail": text}
    versions = [ProposalVersion(approval=approval, version=2, at=now, **edited)] * 2
    closing = RequestClosing("decided", text, now, "approve").sentence
    return Card(
        approval=approval,
        terms=Terms(rule=text, policy_version=text, outcome=outcome, four_eyes=("requester", "owner"), reason=text),
        arguments={},
        argument_rows=argument_rows_of({text: text}),
        permit=Permit(False, "one-vote", text),
        is_open=is_open,
        closing="" if is_open else closing,
        decisions=[DecisionLine(vote, vote.for_version == 2) for vote in votes],
        agreed=[text],
        versions=versions,
        receipt=[],
        approve_label="Approve",
        reject_label="Reject",
        ladder=[LadderStep(text, now)],
        deadline_words=text,
    )


def _open_card(text: str) -> str:
    return _drawn(_card(text, is_open=True), text)


def _closed_card(text: str) -> str:
    return _drawn(_card(text, is_open=False), text)


def _refused(text: str) -> str:
    """Return the bar with the words of a refusal, and the form of a change that a rule never allows."""
    card = replace(_card(text, is_open=True), permit=Permit(True, "", ""))
    refusal = {"status": 409, "words": str(AlreadyClosed(RequestClosing("decided", text, database_now(), "approve")))}
    parts = [render_to_string("approvals/_decide.html", {"card": card, "refusal": refusal, "looks": {}})]
    for schema in ({"type": "object"}, {"type": "object", "properties": {"a": {"type": "string"}}}):
        form = schema_form.build(schema, {}, prefix="a")
        form.add_error((), f"The rule “{text}” never allows this. Change something else.")
        parts.append(render_to_string("shared/_schema_form.html", {"form": form}))
    return "".join(parts)


def _denied(text: str) -> str:
    return render_to_string("approvals/_facts.html", {"card": _card(text, is_open=False, outcome="deny")})


def _drawn(card: Card, text: str) -> str:
    looks = Looks(canonical=text, next_step=0, is_answering=False, must_sign_in_again=False, has_run=False)
    parts = ("_action", "_decisions", "_facts", "_decide")
    return "".join(render_to_string(f"approvals/{part}.html", {"card": card, "looks": looks}) for part in parts)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("part", "times", "as_json"),
    [
        *[(_form, 34, 0), (_rules, 19, 0), (_calendar, 7, 0)],
        *[(_open_card, 25, 2), (_closed_card, 22, 2), (_refused, 3, 0), (_denied, 7, 0)],
    ],
    ids=["form", "rules", "calendars", "open", "decided", "refused", "denied"],
)
def test_a_part_shows_the_text_in_every_place(part: Callable[[str], str], times: int, as_json: int) -> None:
    harmless: Elements = set().union(*(read_with_fields(part(text)).elements for text in HARMLESS))
    assert read_with_fields(part("quokka")).text.count("quokka") == times
    faults = []
    for hostile in CORPUS:
        page = read_with_fields(part(hostile.text))
        faults += [f"an element {one}" for one in page.elements - harmless]
        faults += hidden_from_readers(hostile, page)
        faults += not_shown(hostile, page.text, times if _is_plain(hostile) else times - as_json)
    assert faults == []
