"""What every test can ask for: the database, and the cast of people."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as product_settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.template import RequestContext
from django.test import Client, TransactionTestCase
from django.test.signals import template_rendered
from hypothesis import HealthCheck, is_hypothesis_test, settings
from whitenoise.middleware import WhiteNoiseMiddleware
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from console import clock, health, probes
from console.environment import PROJECT
from stack.temporal import Temporal
from tests import as_migrated, session_postgres
from tests.landmarks import not_told_apart
from tests.waiting import PATIENCE

#: folders whose tests share one stack of engines and processes
WITH_A_STACK = ("drills", "browser")
FIRST = ("drills", "browser", "orchestration", "dataplane")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--histories", type=int, default=25, help="how many examples each property test makes up")
    parser.addoption(
        "--every-look", action="store_true", help="walk at both sizes in both themes, not in two of the four"
    )


class ByStack(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Give one process what shares a stack, and each file as a whole, when several test side by side."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        folder = file.split("/")[1]
        return folder if folder in WITH_A_STACK else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByStack:
    return ByStack(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        asks_how_many = "how_many_examples" in getattr(item, "fixturenames", ())
        if asks_how_many or is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.made_up)


class LongestFirst:
    """Drills mostly wait, so they begin first and others test beside them; then what opens a browser."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: FIRST.index(folder) if (folder := item.path.parent.name) in FIRST else len(FIRST))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LongestFirst())
    settings.register_profile(
        "asked",
        max_examples=config.getoption("--histories"),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("asked")
    # For good, not for one test: a page that is still open asks once more when its test is over, and a thread of that
    # question would then find the database closed to it.
    probes.in_background = lambda work: work()
    Temporal.synchronous = "0"  # what tests lose may be lost in a power cut
    # Twenty threads of one test share sixteen connections, on a machine that does much else.
    options: Any = product_settings.DATABASES["default"]["OPTIONS"]
    options["pool"]["timeout"] = PATIENCE
    # A password that is hard to guess from its hash takes a third of a second to make and to check.
    product_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    _find_static_files_once()


def _find_static_files_once() -> None:
    """Let all middlewares share what one found: each client of a test has its own, a tenth of the test's time."""
    found: dict[str, Any] = {}
    find = WhiteNoiseMiddleware.add_files_from_finders

    def once(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            find(middleware)
            found.update(middleware.files)
        middleware.files = dict(found)

    WhiteNoiseMiddleware.add_files_from_finders = once


@pytest.fixture
def how_many_examples(request: pytest.FixtureRequest) -> int:
    """How many examples a test makes up that does so without hypothesis."""
    return int(request.config.getoption("--histories"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Start the session's PostgreSQL before Django makes its test database.

    A test may stand still in its transaction for as long as a busy machine lets it.
    """
    options = connection.settings_dict["OPTIONS"]
    options["options"] = options["options"].replace("timeout=10s", f"timeout={2 * PATIENCE}s")
    session_postgres.start()


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """Leave the test database to its server, which goes away with the session.

    Dropping it fails while any thread that a test left behind still has a connection.
    """
    return True


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Add LangGraph's tables; after a test that commits, let the tables be as migrations left them."""
    from orchestration import checkpoint_gateway

    with pytest.MonkeyPatch.context() as patched:
        with django_db_blocker.unblock():
            asyncio.run(checkpoint_gateway.setup())
            with connection.cursor() as cursor:
                # The cast of a test is made outside of what it tells about: its accounts are not on its record.
                _switch_account_entries(cursor, "DISABLE")
            as_migrated.keep()
        patched.setattr(TransactionTestCase, "_fixture_teardown", lambda case: as_migrated.restore())
        yield


def _switch_account_entries(cursor: Any, how: str) -> None:
    cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'recorded'")
    for (table,) in cursor.fetchall():
        cursor.execute(f"ALTER TABLE {table} {how} TRIGGER recorded")


@pytest.fixture
def accounts_on_record(db: None) -> Iterator[None]:
    """Record changes of accounts from here on, as everywhere outside of tests."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")  # else tables cannot be altered
        _switch_account_entries(cursor, "ENABLE")
    yield
    if not connection.in_atomic_block:  # else the test's transaction takes it back
        with connection.cursor() as cursor:
            _switch_account_entries(cursor, "DISABLE")


@pytest.fixture(autouse=True)
def no_part_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages tell of absent parts, asked every few seconds. In tests none is asked unless the test says so.

    Whoever asks gets a new answer, from this thread: another one would not see what the test has not committed.
    """
    monkeypatch.setattr(health, "_noticed", (float("inf"), []))
    monkeypatch.setattr(health, "KEPT_SECONDS", 0.0)
    health._database_probe.cache_clear()
    health._engine_probe.cache_clear()


@pytest.fixture(autouse=True)
def no_engine_is_asked_about_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages ask Temporal about the run that they show. In tests nobody answers unless the test says so."""
    from orchestration.diagnosis import look

    monkeypatch.setattr(look, "_asked", lambda run_id: look.LatestLook(None))
    monkeypatch.setattr(look, "_asking", look._Asking())


@pytest.fixture(autouse=True)
def no_marks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads what the worker of another has kept of its agents, unless it says so."""
    from orchestration.state import kept_marks

    monkeypatch.setattr(kept_marks, "_read", (float("inf"), {}))


@pytest.fixture(autouse=True)
def no_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test asks its database for the time: another may have moved its clock."""
    monkeypatch.setattr(clock, "_known", None)


@pytest.fixture(autouse=True)
def no_head_is_kept(settings: Any) -> None:
    """Each test has a record of its own, so also a file of its own for the heads of its chain."""
    settings.AUDIT_HEADS_FILE = session_postgres.HOME / f"heads-{uuid4().hex}.jsonl"


@pytest.fixture(autouse=True)
def no_page_hides_what_every_page_shows() -> Iterator[None]:
    """Watch each page that a test renders: no view, loop or include may use a name of the context processors."""
    hidden: list[str] = []

    def look(template: Any = None, context: Any = None, **_: Any) -> None:
        at = getattr(context, "_processors_index", None)
        is_ours = template is not None and str(template.origin.name).startswith(str(PROJECT / "templates"))
        if not is_ours or not isinstance(context, RequestContext) or at is None:
            return
        ours = context.dicts[at].keys()
        hidden.extend(f"{template.name}: {name}" for above in context.dicts[at + 1 :] for name in ours & above.keys())

    template_rendered.connect(look)
    yield
    template_rendered.disconnect(look)
    assert not hidden, "these names are the frame's own (console.context and Django's context processors)"


@pytest.fixture(autouse=True)
def no_page_says_two_things_alike(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Watch each page that a test gets: no two of its regions have one name, and no two elements one id."""
    alike: list[str] = []
    ask = Client.request

    def look(client: Client, **request: Any) -> Any:
        response = ask(client, **request)
        if not response.streaming and response.headers.get("Content-Type", "").startswith("text/html"):
            path = request.get("PATH_INFO", "")
            alike.extend(f"{path}: {fault}" for fault in not_told_apart(response.content.decode()))
        return response

    monkeypatch.setattr(Client, "request", look)
    yield
    assert not alike


def _person(username: str, *roles: str) -> User:
    user, _ = User.objects.get_or_create(username=username)
    for role in roles:
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


@pytest.fixture
def alice(db: None) -> User:
    """May decide."""
    return _person("alice", "reviewer")


@pytest.fixture
def bob(db: None) -> User:
    """May decide too."""
    return _person("bob", "reviewer")


@pytest.fixture
def olga(db: None) -> User:
    """Starts runs."""
    return _person("olga", "operator")


@pytest.fixture
def ada(db: None) -> User:
    """Refreshes data."""
    return _person("ada", "admin")


@pytest.fixture
def eve(db: None) -> User:
    """Has an account and no role."""
    return _person("eve")
