"""The pages of the policy: read by everybody with a role, changed by admins, without a script."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from approvals import services
from approvals.models import Approval, PolicyVersion
from approvals.policies import shipped
from approvals.services.changing_policy import propose
from tests.approvals.conftest import answer
from tests.page_client import signed_in, text

POLICY, EDIT = "/policy/", "/policy/edit"
Opener = Callable[..., Approval]


@pytest.fixture
def ivo(ada: User) -> User:
    user = User.objects.create(username="ivo")
    user.groups.add(Group.objects.get_or_create(name="admin")[0])
    return user


class Editor:
    """Somebody who edits a draft with the page's own buttons; only what the page shows is sent back."""

    def __init__(self, user: User) -> None:
        self.client = signed_in(user)
        self.shown = self.client.get(EDIT)

    @property
    def text(self) -> str:
        return text(self.shown)

    @property
    def draft(self) -> dict[str, Any]:
        found = re.search(r'name="draft" value="([^"]*)"', self.text)
        assert found is not None
        held: dict[str, Any] = json.loads(html.unescape(found[1]))
        return held

    def names(self) -> list[str]:
        return [rule["name"] for rule in self.draft["rules"]]

    def press(self, do: str, **fields: Any) -> int:
        assert f'value="{do}"' in self.text, f"there is no button {do}"
        sent = self._fields() | {"draft": json.dumps(self.draft), "do": do} | fields
        self.shown = self.client.post(EDIT, sent)
        return int(self.shown.status_code)

    def _fields(self) -> dict[str, Any]:
        """Return what the inputs on the page hold."""
        page = self.text
        held: dict[str, Any] = {}
        for name, value in re.findall(r'<input class="input" id="[^"]*" name="([^"]+)" value="([^"]*)"', page):
            held[name] = html.unescape(value)
        for name, value in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>\n(.*?)</textarea>', page, re.S):
            held[name] = html.unescape(value)
        for name, body in re.findall(r'<select [^>]*name="([^"]+)".*?>(.*?)</select>', page, re.S):
            held[name] = re.findall(r'value="([^"]*)" selected', body)[0]
        for name, value in re.findall(r'type="checkbox" name="([^"]+)" value="([^"]*)" checked', page):
            held.setdefault(name, []).append(value)
        for name in ("may_bulk", "needs_fresh_data", "may_change_fixed"):
            if re.search(rf'type="checkbox" name="{name}" checked', page):
                held[name] = "on"
        return held


@pytest.mark.parametrize("path", [POLICY, EDIT, "/policy/versions/1/"])
def test_a_stranger_signs_in_first(db: None, path: str) -> None:
    assert Client().get(path).status_code == 302


def test_everybody_with_a_role_reads_and_admins_change(ada: User, alice: User, olga: User, eve: User) -> None:
    propose(rules=[{"name": "x"}], calendars={}, note="n", by=ada, based_on=0)
    for user in (alice, olga):
        client = signed_in(user)
        page = client.get(POLICY)
        assert page.status_code == 200 and EDIT not in text(page)
        assert client.get("/policy/versions/1/").status_code == 200
        assert client.get(EDIT).status_code == client.post(EDIT, {}).status_code == 403
        assert client.post("/policy/versions/1/settle", {"do": "confirm"}).status_code == 403
    assert EDIT in text(signed_in(ada).get(POLICY))
    assert signed_in(eve).get(POLICY).status_code == 403


def test_the_shipped_rules_are_shown_as_cards(alice: User) -> None:
    shown = text(signed_in(alice).get(POLICY))
    assert "The shipped rules" in shown and "Never changed" in shown
    assert "One of the reviewers, never who asked for it nor who changed it, within 72h." in shown


@pytest.mark.parametrize("path", ["/policy/versions/9/", "/policy/versions/99999999999999999999/"])
def test_a_version_that_is_not_there(path: str, ada: User) -> None:
    assert signed_in(ada).get(path).status_code == 404
    assert signed_in(ada).post(f"{path}settle", {"do": "confirm"}).status_code == 404


def test_a_rule_goes_from_the_form_to_a_confirmed_version(ada: User, ivo: User, open_one: Opener, alice: User) -> None:
    done, waiting = open_one(), open_one()
    services.decide(approval_id=done.pk, reviewer=alice, given=answer(done))
    editor = Editor(ada)
    editor.press("add")
    fields = {
        "name": "large refunds",
        "match.tools": "issue_refund",
        "condition": 'above(args.amount, "50")',
        "needed": "2",
    }
    assert editor.press("keep:2", **fields) == 200
    assert editor.names() == ["outcome questions", "everything", "large refunds"]
    editor.press("up:2")
    editor.press("up:1")
    assert editor.names()[0] == "large refunds"
    assert "Added" in editor.text
    assert editor.press("preview") == 200
    assert "1 of 1 open request" in editor.text and waiting.pk in editor.text
    assert "needs two instead of one" in editor.text and "Approved by alice" in editor.text
    assert editor.press("propose") == 422  # without a note
    assert editor.press("propose", note="two for large ones") == 302
    page = text(signed_in(ada).get("/policy/versions/1/"))
    assert "Take it back" in page and 'value="confirm"' not in page
    client = signed_in(ivo)
    page = text(client.get("/policy/versions/1/"))
    assert "two for large ones" in page and 'value="confirm"' in page and "What would change" in page
    assert client.post("/policy/versions/1/settle", {"do": "confirm"}).status_code == 302
    kept = PolicyVersion.objects.get(state="active").rules[0]
    assert (kept["needed"], kept["match"]["tools"], kept["may_bulk"]) == (2, ["issue_refund"], True)
    assert "large refunds" in text(client.get(POLICY))


def test_every_field_survives_the_form_unchanged(ada: User, alice: User) -> None:
    rule = {
        "name": "all <of> it",
        "match": {
            "sources": ["program"],
            "agents": ["support"],
            "tools": ["a", "b"],
            "kinds": ["action"],
            "risks": ["low", "high"],
        },
        "condition": 'args.a == "<&\\">"',
        "outcome": "ask",
        "groups": [],
        "people": ["ada", "alice"],
        "needed": "all",
        "four_eyes": ["requester", "editor", "owner"],
        "verdicts": ["approve", "reject", "respond"],
        "remind_after": "30m",
        "escalate_after": "2h",
        "expire_after": "8h",
        "escalate_to": [],
        "calendar": "office",
        "fresh_sign_in_minutes": 15,
        "may_bulk": False,
        "dwell_seconds": 20,
        "needs_fresh_data": True,
        "may_change_fixed": True,
        "risk": "medium",
    }
    office = {"timezone": "Europe/Berlin", "hours": {"mon": [["09:00", "17:00"]]}, "holidays": ["2026-12-25"]}
    propose(rules=[rule], calendars={"office": office}, note="n", by=ada, based_on=0)
    editor = Editor(ada)
    editor.press("edit:0")
    assert editor.press("keep:0") == 200
    assert editor.draft["rules"] == [rule]
    editor.press("calendar:office")
    assert editor.press("keep-calendar:office") == 200
    assert editor.draft["calendars"] == {"office": office}
    assert "Nothing differs" in editor.text


def test_a_fault_stands_at_its_field_and_nothing_typed_is_lost(ada: User) -> None:
    editor = Editor(ada)
    editor.press("edit:1")
    wrong = {"name": "mine", "condition": "args.a >", "needed": "many", "people": "ghost", "expire_after": "soon"}
    assert editor.press("keep:1", **wrong) == 422
    for name, typed in wrong.items():
        field = editor.text[editor.text.index(f'id="field-{name.replace("_", "-")}"') :]
        field = field[: field.index('class="f" id=') if 'class="f" id=' in field else None]
        assert html.escape(typed) in field, name
    assert "Write a duration as 90m" in editor.text and "Write a whole number from 1 to 20" in editor.text
    assert 'aria-invalid="true"' in editor.text and "Nothing is kept yet" in editor.text
    assert editor.names() == ["outcome questions", "everything"]  # the draft holds the rule as it was
    assert editor.press("keep:1", **wrong | {"condition": "", "needed": "1", "expire_after": "72h"}) == 422
    assert "There is no active account ghost." in editor.text


def test_the_whole_list_as_json(ada: User) -> None:
    editor = Editor(ada)
    editor.press("json")
    held = {"rules": [{"name": "only"}], "calendars": {}}
    for wrong in ("{", "[]", '{"rules": [], "rules": [], "calendars": {}}', json.dumps(held | {"x": 1}), "[" * 9999):
        assert editor.press("keep-json", json=wrong) == 422
        assert html.escape(wrong[:40]) in editor.text
    broken = json.dumps({"rules": [{"name": "only", "condition": "1 +"}], "calendars": {}})
    assert editor.press("keep-json", json=broken) == 422
    assert "rules.0.condition" in editor.text
    assert editor.press("keep-json", json=json.dumps(held)) == 200
    assert editor.names() == ["only"]


def test_calendars_are_added_changed_and_removed(ada: User) -> None:
    editor = Editor(ada)
    editor.press("calendar:")
    fields = {"calendar": "office", "timezone": "Mars", "hours.mon": "9-17", "hours.tue": "22:00-06:00"}
    assert editor.press("keep-calendar:", **fields) == 422
    assert "not a time zone" in editor.text and "not a time of day" in editor.text and "22:00-06:00" in editor.text
    fields |= {"timezone": "Europe/Berlin", "hours.mon": "09:00-12:00, 13:00-17:00", "hours.tue": ""}
    assert editor.press("keep-calendar:", **fields, holidays="2026-12-25\n2026-01-01") == 200
    assert editor.draft["calendars"]["office"]["hours"] == {"mon": [["09:00", "12:00"], ["13:00", "17:00"]]}
    assert "Mon 09:00-12:00, 13:00-17:00" in editor.text
    editor.press("edit:1")
    assert editor.press("keep:1", calendar="office", remind_after="1h", escalate_after="8h", expire_after="16h") == 200
    editor.press("remove-calendar:office")
    assert editor.press("preview") == 422
    assert "There is no calendar office." in editor.text


def test_a_change_made_from_an_old_version_is_told_so(ada: User) -> None:
    editor = Editor(ada)
    editor.press("remove:0")
    editor.press("preview")
    propose(rules=[{"name": "first"}], calendars={}, note="n", by=ada, based_on=0)
    assert editor.press("propose", note="mine") == 409
    assert "version 1 is active now" in editor.text and "mine" in editor.text


def test_the_same_click_twice_is_one_version(ada: User, ivo: User) -> None:
    editor = Editor(ada)
    editor.press("remove:0")
    editor.press("preview")
    sent = {"draft": json.dumps(editor.draft), "note": "less", "do": "propose"}
    assert [editor.client.post(EDIT, sent).status_code for _ in range(2)] == [302, 302]
    client = signed_in(ivo)
    for _ in range(2):
        assert client.post("/policy/versions/1/settle", {"do": "confirm"}).status_code == 302
    assert PolicyVersion.objects.count() == 1
    late = signed_in(ada).post("/policy/versions/1/settle", {"do": "refuse", "reason": "too late"})
    assert late.status_code == 409 and "confirmed by ivo" in text(late) and "too late" in text(late)


def test_a_refusal_without_a_reason_is_told_at_its_field(ada: User, ivo: User) -> None:
    propose(rules=[{"name": "first"}], calendars={}, note="n", by=ada, based_on=0)
    refused = signed_in(ivo).post("/policy/versions/1/settle", {"do": "refuse", "reason": "  "})
    assert refused.status_code == 422 and PolicyVersion.objects.get().state == "proposed"
    shown = refused.content.decode()
    field = shown[shown.index('id="id-reason"') :]
    assert 'aria-describedby="reason-fault"' in field and "Say why, for whoever proposed it." in field
    assert "Say why" not in shown[: shown.index('id="id-reason"')]


@pytest.mark.parametrize("draft", ["", "{", "[]", '{"based_on": "x"}', '{"based_on": 0, "rules": 1, "calendars": {}}'])
def test_what_is_no_draft_is_answered_in_words(draft: str, ada: User) -> None:
    response = signed_in(ada).post(EDIT, {"draft": draft, "do": "preview"})
    assert response.status_code == 422 and "cannot be read" in text(response)


@pytest.mark.parametrize(
    "do", ["", "edit:9", "edit:x", "up:0", "down:99", "remove:-1", "dance", "keep:7:7", "calendar:no"]
)
def test_an_odd_button_breaks_nothing(do: str, ada: User) -> None:
    draft = json.dumps({"based_on": 0, "rules": [{"name": "x"}, 7, None], "calendars": {"c": 3}, "note": 5})
    assert signed_in(ada).post(EDIT, {"draft": draft, "do": do}).status_code in (200, 422)


def test_names_are_shown_inert_and_visible(ada: User) -> None:
    rules = [{"name": "a\u202eb <script>x</script>", "people": ["ada"]}]
    propose(rules=rules, calendars={}, note="n\u200bote", by=ada, based_on=0)
    for path in (POLICY, EDIT, "/policy/versions/1/"):
        shown = text(signed_in(ada).get(path)).split('name="draft"')[-1]
        cards = re.sub(r'value="[^"]*"', "", shown)
        assert "<script>x" not in cards and "⟨U+202E⟩" in cards and "\u202e" not in cards


def test_the_page_takes_few_queries_however_many_versions(ada: User) -> None:
    for number in range(12):
        propose(rules=[{"name": f"r{number}"}], calendars={}, note="n", by=ada, based_on=number)
    client = signed_in(ada)
    client.get(POLICY)
    with CaptureQueriesContext(connection) as queries:
        shown = client.get(POLICY)
    assert shown.status_code == 200 and len(queries) <= 10
    assert len(shipped.RULES) == 2
