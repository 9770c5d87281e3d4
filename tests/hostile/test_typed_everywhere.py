"""Whatever keeps a form from being taken, what was typed into it comes back: at every address that takes a form.

The addresses are those of the permission matrix, which names each; the fields are learned from the views and from the
forms that the pages draw. A new form is held to it without a line here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from django.conf import settings as product_settings
from django.contrib.messages import ERROR, get_messages
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import resolve

from approvals.models import Approval, Delegation, StandingApproval
from console.environment import PROJECT
from console.forms import typed as typed_module
from orchestration.models import Batch, Run
from tests.boundaries.test_permission_matrix import PAGES, addresses
from tests.dataplane.fakes import FakePrefect

from .test_doors import _filled, asked_names, prefect, tried, world
from .world import World

__all__ = ["prefect", "world"]
pytestmark = pytest.mark.django_db

BACKEND = "django.contrib.auth.backends.ModelBackend"
FROM_HERE = {"Origin": "http://testserver", "Referer": "http://testserver/inbox/"}
#: answered before anybody is asked who they are, or about the account itself; what is typed there is a secret
ELSEWHERE = {"account_login", "account_logout", "account_signup", "account_reauthenticate", "account_change_password"}
FORMS = sorted(name for name, (_, may_post) in PAGES.items() if may_post and name not in ELSEWHERE | {"console:typed"})
#: what is chosen and not typed, what says what a button does, and what the address of a list carries
CHOSEN = {
    *("action", "again", "answering", "batch", "check", "checkpoint_id", "claimed", "do", "draft", "dry_run", "due"),
    *("filter", "id", "ids", "is_shared", "item", "kind", "limit", "mine", "order", "preview", "principal"),
    *("risk", "same", "search", "show", "shown", "source", "state", "status", "to", "tool", "verdict"),
    *("waiting", "zone", "agent", "cause", "stuck", "batch_id", "secret_fields"),
}
#: typed, but over a name that the page proposes itself; sent again by all that can be sent again
PROPOSED = {"key"}
WORDS = "typed here"
LONG = "word " * 6000


@dataclass
class TypedForm:
    """Where a form is sent, and words of its own for each field that words are typed into."""

    door: str
    path: str
    sent: dict[str, str] = field(default_factory=dict)
    takes_words: bool = True  # else the words under `sent` are nothing that the door asks for

    def lost(self, html: str, sent: dict[str, str] | None = None, *, whole: bool = True) -> list[str]:
        """Return the names of what is not on the page; `whole`: what was chosen or carried counts too."""
        sent = self.sent if sent is None else sent
        counted = [name for name in sent if whole or not is_chosen(name)]
        return [name for name in counted if sent[name].strip() not in html]


def is_chosen(name: str) -> bool:
    return name in CHOSEN | typed_module._CARRIED or name.startswith(("rule-", "?")) or ".~" in name


@pytest.fixture
def browser(world: World) -> Client:
    """Somebody who has every role, in a browser that shows whose forms it has."""
    client = Client(raise_request_exception=False)
    client.force_login(world.everybody, backend=BACKEND)
    client.get("/typed/", headers=FROM_HERE)
    assert typed_module._TYPIST in client.cookies
    return client


def form_of(door: str, world: World, client: Client) -> TypedForm:
    """Return the form that the door takes, its names learned from the view."""
    path = _filled(dict(addresses())[door], world)
    with asked_names() as names:
        sent: dict[str, str] = {}
        for _ in range(3):
            tried(lambda: client.post(path, dict(sent)))  # noqa: B023  # called here and now
            sent = {name: world.plausible.get(name, "") for name in sorted(names)}
    told = [name for name in sent if name not in typed_module.NEVER_SHOWN]
    words = {name: f"{WORDS}: {name}" for name in told}
    return TypedForm(door, path, words or {"reason": WORDS}, takes_words=bool(words))


@contextmanager
def undone(client: Client) -> Iterator[None]:
    """Take back what is written inside, and the session that the browser then holds."""
    held = client.cookies[product_settings.SESSION_COOKIE_NAME].value
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
    client.cookies[product_settings.SESSION_COOKIE_NAME] = held


@contextmanager
def failing(fault: Exception, *, but: tuple[str, ...] = ()) -> Iterator[None]:
    """Have every statement fail that names none of the tables `but`."""

    def fail(execute: Any, statement: str, *rest: Any) -> Any:
        if any(name in statement for name in but):
            return execute(statement, *rest)
        raise fault

    with connection.execute_wrapper(fail):
        yield


def session_over(form: TypedForm, client: Client, world: World) -> list[str]:
    del client.cookies[product_settings.SESSION_COOKIE_NAME]
    gone = client.post(form.path, form.sent, headers=FROM_HERE)
    if gone.status_code != 302 or not gone["Location"].endswith("?next=/typed/"):
        return [f"{gone.status_code} {gone.get('Location')}"]
    kept = gone.wsgi_request.session[typed_module._HELD]
    client.force_login(world.everybody, backend=BACKEND)
    session = client.session  # a test's own sign-in begins another one
    session[typed_module._HELD] = kept
    session.save()
    return form.lost(client.get("/typed/").content.decode())


def session_over_for_a_script(form: TypedForm, client: Client, world: World) -> list[str]:
    del client.cookies[product_settings.SESSION_COOKIE_NAME]
    told = client.post(form.path, form.sent, headers=FROM_HERE | {"HX-Request": "true"})
    stays = told.get("HX-Reswap") == "none"  # the page stays as it is, with its form
    return [] if told.status_code == 401 and stays else [f"{told.status_code}, swapped: {not stays}"]


def database_away(form: TypedForm, client: Client, world: World) -> list[str]:
    with failing(OperationalError("the connection is lost")):
        answer = client.post(form.path, form.sent, headers=FROM_HERE)
    html = answer.content.decode()
    can_be_sent = answer.status_code == 503 and "Send again" in html and f'action="{form.path}"' in html
    return form.lost(html) if can_be_sent else [f"{answer.status_code} without a way to send it again"]


def broken(form: TypedForm, client: Client, world: World) -> list[str]:
    with failing(RuntimeError("broken"), but=("django_session", "auth_user")):
        answer = client.post(form.path, form.sent, headers=FROM_HERE)
    return form.lost(answer.content.decode(), whole=False) if answer.status_code >= 400 else [str(answer.status_code)]


def role_gone(form: TypedForm, client: Client, world: World) -> list[str]:
    world.everybody.groups.clear()
    type(world.everybody).objects.filter(pk=world.everybody.pk).update(is_superuser=False)
    answer = client.post(form.path, form.sent, headers=FROM_HERE)
    html = answer.content.decode()
    return form.lost(html, whole=False) if answer.status_code == 403 else [f"{answer.status_code}, not refused"]


def stale(form: TypedForm, client: Client, world: World) -> list[str]:
    checking = Client(enforce_csrf_checks=True, raise_request_exception=False)
    checking.cookies = client.cookies
    answer = checking.post(form.path, form.sent, headers=FROM_HERE)
    return form.lost(answer.content.decode()) if answer.status_code == 403 else [f"{answer.status_code}, not stale"]


def gone(form: TypedForm, client: Client, world: World) -> list[str]:
    """What the form is about is not there any more."""
    nothing = replace(world, ids={"form": "csv", "action": "end", "view": "customers"})
    path = _filled(dict(addresses())[form.door], nothing)
    answer = client.post(path, form.sent, headers=FROM_HERE)
    if path == form.path:
        return []
    return (
        [*form.lost(answer.content.decode(), whole=False)]
        if answer.status_code >= 400
        else [f"{answer.status_code} for what is not there"]
    )


def late(form: TypedForm, client: Client, world: World) -> list[str]:
    """Somebody or something else was quicker: nothing is open any more."""
    close(world)
    return refused(form, client, world)


def close(world: World) -> None:
    Approval.objects.filter(pk__in=(world.ids["approval_id"], world.ids["asked_id"])).update(status="expired")
    Run.objects.filter(pk=world.ids["run_id"]).update(status="finished")
    Batch.objects.filter(pk=world.ids["batch_id"]).update(status="finished")
    now = Approval.objects.get(pk=world.ids["approval_id"]).opened_at
    Delegation.objects.filter(pk=world.ids["delegation_id"]).update(revoked_at=now)
    StandingApproval.objects.filter(pk=world.ids["standing_id"]).update(revoked_at=now)


def refused(form: TypedForm, client: Client, world: World) -> list[str]:
    """Each field wrong by itself, all of them, and all far too long."""
    if not form.takes_words:
        return []
    typed = {name: words for name, words in form.sent.items() if not is_chosen(name)}
    plausible = {name: world.plausible[name] for name in form.sent if name in world.plausible}
    wrongs = [typed, plausible | typed, plausible | {name: f"{words} {LONG}" for name, words in typed.items()}]
    wrongs += [typed | plausible | {name: words} for name, words in typed.items()]
    found: dict[str, None] = {}
    for wrong in wrongs:
        answer = tried(lambda: client.post(form.path, wrong, headers=FROM_HERE))  # noqa: B023
        if answer.status_code >= 400:
            missing = form.lost(answer.content.decode(), wrong, whole=False)
            found |= {f"{answer.status_code} {name}": None for name in missing}
        elif typed and any(told.level >= ERROR for told in get_messages(answer.wsgi_request)):
            found[f"{answer.status_code}, and refused by a message: what was typed is gone"] = None
    return list(found)


WAYS: tuple[Callable[[TypedForm, Client, World], list[str]], ...] = (
    session_over,
    session_over_for_a_script,
    database_away,
    broken,
    role_gone,
    stale,
    gone,
    late,
    refused,
)


@pytest.mark.parametrize("door", FORMS)
def test_what_was_typed_comes_back_whatever_kept_it(door: str, world: World, browser: Client) -> None:
    form = form_of(door, world, browser)
    faults = []
    for way in WAYS:
        with undone(browser):
            faults += [f"{way.__name__}: {one}" for one in way(form, browser, world)]
    assert not faults, f"{door} at {form.path}:\n" + "\n".join(faults[:20])


class Forms(HTMLParser):
    """The forms of a page that are posted: where to, and the names of what is typed into each."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, set[str]]] = []
        self._is_inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if tag == "form":
            self._is_inside = (has.get("method") or "").lower() == "post"
            if self._is_inside:
                self.found.append((has.get("action") or "", set()))
        is_typed = tag == "textarea" or (tag == "input" and has.get("type", "text") in ("text", "search", "number"))
        if self._is_inside and is_typed and has.get("name") and "readonly" not in has:
            self.found[-1][1].add(has["name"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_inside = False


def drawn(world: World, client: Client) -> Iterator[tuple[str, str, set[str]]]:
    """Yield of each form on each page: the page, the path that takes the form, and what is typed into it."""
    for name, path in addresses():
        if name not in PAGES or PAGES[name][0] is None or name in ELSEWHERE:
            continue
        for query in ("", "?answering=1", f"?ids={world.ids['run_id']}&action=end", f"?id={world.ids['approval_id']}"):
            page = _filled(path, world) + query
            answer = tried(lambda: client.get(page))  # noqa: B023
            if getattr(answer, "streaming", False) or "html" not in answer.get("Content-Type", ""):
                continue
            for action, names in Forms(answer.content.decode()).found:
                yield page, action.partition("?")[0] or _filled(path, world), names


def test_every_form_that_a_page_draws_is_among_them_with_all_that_is_typed(
    world: World, browser: Client, prefect: FakePrefect
) -> None:
    pages: dict[str, set[str]] = {}
    for _, path, names in drawn(world, browser):
        pages.setdefault(path, set()).update(names)
    assert {resolve(path).view_name for path in pages} - set(FORMS) - ELSEWHERE - {"console:typed"} == set()
    faults = []
    for door in FORMS:
        form = form_of(door, world, browser)
        typed = {re.sub(r"-\d+$", "-0", name) for name in pages.get(form.path, set())} - PROPOSED
        faults += [f"{door} never asks for {name}" for name in typed - set(form.sent)]
        faults += [f"{name} is typed at {door}, not chosen" for name in typed if is_chosen(name)]
    assert not faults, "\n".join(faults)
    assert sum(bool(names) for names in pages.values()) > 10


def test_every_address_that_a_template_posts_to_is_among_them() -> None:
    posts = re.compile(r"<form[^>]*method=\"post\"[^>]*action=\"{% url \"([\w:]+)\"")
    found = {name for path in (PROJECT / "templates").rglob("*.html") for name in posts.findall(path.read_text())}
    assert found and found - set(FORMS) - ELSEWHERE - {"console:typed"} == set()
