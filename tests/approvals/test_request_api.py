"""Programs that ask for approvals: `POST approvals` to the letter, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from django.test import Client
from django.urls import reverse

from approvals import services
from approvals.errors import MayNotDecide, StaleTerms
from approvals.models import Approval, AuditEvent
from approvals.policies import asking
from approvals.proposal.canonical import canonicalise, digest_of
from approvals.proposal.terms import Facts, Terms
from approvals.record import audit
from approvals.services import Answer
from console.clock import database_now
from console.environment import environment
from console.forms import schema_check
from console.models import OutboxEntry
from tests.api_caller import Caller, paths_of, problem
from tests.approvals.conftest import answer

BODY: dict[str, Any] = {
    "title": "Delete the old index",
    "tool": "delete_index",
    "arguments": {"name": "orders-2019", "keep_days": 30},
    "external_id": "job-17",
    "deliver_to": {"temporal": {"workflow_id": "cleanup-17", "signal": "approved"}},
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "keep_days": {"type": "integer", "minimum": 7}},
    "required": ["name"],
}
WEBHOOK = {"webhook": {"url": "https://program.example/answers?token=s3cret"}}
PROMISED = {
    *("id", "status", "version", "digest", "canonical", "tool", "arguments", "arguments_schema", "summary"),
    *("agent_words", "risk", "verdicts", "run_id", "requested_by", "audience", "quorum", "opened_at", "due_at"),
    *("dataset_versions", "receipt", "decisions", "executed", "url"),
}

Policy = Callable[..., None]


def service(name: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get_or_create(name="service")[0])
    return user


@pytest.fixture
def robot(db: None) -> User:
    return service("robot")


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Policy:
    """Let every proposal stand under the same terms, from now on."""

    def set_terms(**changes: Any) -> None:
        def terms_for(facts: Facts) -> Terms:
            return Terms(rule="programs", policy_version="test", **{"risk": facts.risk} | changes)

        monkeypatch.setattr(asking, "terms_for", terms_for)

    return set_terms


def ask(user: User, **changes: Any) -> Any:
    body = {**BODY, **changes}
    return Caller(user).post("approvals", {name: value for name, value in body.items() if value is not None})


def asked(user: User, **changes: Any) -> Approval:
    told = ask(user, **changes)
    assert told.status_code == 201, told.content
    return Approval.objects.get(pk=told.json()["id"])


def test_a_request_is_201_with_every_promised_field(robot: User) -> None:
    told = ask(robot, arguments_schema=SCHEMA, agent_words="It is five years old.", risk="medium")
    assert told.status_code == 201, told.content
    body = told.json()
    assert set(body) >= PROMISED
    canonical = canonicalise("delete_index", BODY["arguments"])
    assert (body["canonical"], body["digest"]) == (canonical.decode(), digest_of(canonical))
    assert (body["status"], body["version"], body["tool"]) == ("pending", 1, "delete_index")
    assert (body["summary"], body["agent_words"]) == ("Delete the old index", "It is five years old.")
    assert (body["risk"], body["requested_by"], body["external_id"]) == ("medium", "robot", "job-17")
    assert body["arguments_schema"] == SCHEMA
    assert body["run_id"] == f"watch-{body['id']}"
    assert (body["receipt"], body["decisions"], body["executed"]) == ([], [], None)


def test_its_watch_is_started_by_the_relay_and_the_record_names_who_asked(robot: User) -> None:
    approval = asked(robot)
    entry = OutboxEntry.objects.get()
    assert (entry.kind, entry.subject) == ("start_watch", approval.run_id)
    assert entry.payload == {"approval_id": approval.pk, "workflow_id": approval.run_id, "again": False}
    event = AuditEvent.objects.get(kind="approval.opened")
    assert (event.actor, event.subject) == ("program robot", approval.pk)
    assert audit.verify().ok


def test_the_same_request_again_is_200_and_the_same_approval(robot: User) -> None:
    first, again = ask(robot), ask(robot, risk="high", verdicts=None)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (Approval.objects.count(), OutboxEntry.objects.count()) == (1, 1)


def test_a_repetition_is_answered_even_when_it_could_not_be_asked_any_more(robot: User, policy: Policy) -> None:
    due_at = (database_now() + timedelta(hours=2)).isoformat()
    first = ask(robot, due_at=due_at)
    policy(expire_after=60)
    assert (first.status_code, ask(robot, due_at=due_at).status_code) == (201, 200)


@pytest.mark.parametrize("change", ["signals", "webhooks", "schemas"])
def test_a_repetition_is_answered_whatever_is_not_taken_any_more(
    change: str, robot: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes_long(schema: Any, value: Any) -> Any:
        raise schema_check.SchemaBusy

    monkeypatch.setattr(environment(), "webhooks_to_private", True)
    asks: dict[str, dict[str, Any]] = {
        "signals": {},
        "webhooks": {"deliver_to": {"webhook": {"url": "http://127.0.0.1:9/answers"}}},
        "schemas": {"arguments_schema": SCHEMA},
    }
    first = ask(robot, **asks[change])
    monkeypatch.setattr(environment(), "signals", "robot=default/another")
    monkeypatch.setattr(environment(), "webhooks_to_private", False)
    if change == "schemas":
        monkeypatch.setattr(schema_check, "check", takes_long)
    again = ask(robot, **asks[change])
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert ask(robot, external_id="new", **asks[change]).status_code in (422, 429), "a new one is checked"


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Delete the old Index"},
        {"arguments": {"name": "orders-2019", "keep_days": 31}},
        {"risk": "low"},
        {"deliver_to": WEBHOOK},
        {"audience": ["reviewer"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_same_external_id_with_another_body_is_409(change: dict[str, Any], robot: User) -> None:
    ask(robot)
    assert "external id" in problem(ask(robot, **change), 409)["detail"]
    assert Approval.objects.count() == 1


def test_an_account_whose_name_would_be_cut_asks_for_nothing(db: None) -> None:
    assert "shorter name" in problem(ask(service("x" * 101)), 422)["detail"]
    assert ask(service("x" * 100)).status_code == 201


def test_external_ids_belong_to_their_account(robot: User) -> None:
    other = service("other")
    first, second = ask(robot), ask(other, title="Something else")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["external_id"] == second.json()["external_id"] == "job-17"


@pytest.mark.django_db(transaction=True)
def test_twenty_clients_at_once_open_one(transactional_db: None) -> None:
    robot = service("robot")
    callers = [Caller(robot) for _ in range(20)]

    def post(caller: Caller) -> Any:
        try:
            return caller.post("approvals", BODY)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(post, callers))
    assert sorted(one.status_code for one in answers) == [200] * 19 + [201]
    assert len({one.json()["id"] for one in answers}) == 1
    assert OutboxEntry.objects.count() == 1


def test_a_program_sees_what_it_asked_for_and_nothing_else(
    robot: User, open_one: Callable[..., Approval], alice: User
) -> None:
    mine, theirs = asked(robot), asked(service("other"))
    agents = open_one(requested_by=robot)
    assert Caller(robot).get(f"approvals/{mine.pk}").json()["id"] == mine.pk
    for hidden in (theirs, agents):
        problem(Caller(robot).get(f"approvals/{hidden.pk}"), 404)
        problem(Caller(robot).post(f"approvals/{hidden.pk}/withdraw", {"reason": "mine?"}), 404)
    assert [one["id"] for one in Caller(robot).get("approvals").json()["items"]] == [mine.pk]
    assert Caller(alice).get(f"approvals/{theirs.pk}").status_code == 200


def test_who_asked_never_decides_even_with_the_role(robot: User) -> None:
    robot.groups.add(Group.objects.get_or_create(name="reviewer")[0])
    approval = asked(robot)
    with pytest.raises(MayNotDecide) as told:
        services.decide(approval_id=approval.pk, reviewer=robot, given=answer(approval))
    assert told.value.rule == "four-eyes"


BIG = 2**53 + 1
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no title": ({"title": ""}, "title"),
    "a blank title": ({"title": "  "}, "title"),
    "a long title": ({"title": "x" * 501}, "title"),
    "long words": ({"agent_words": "x" * 20_001}, "agent_words"),
    "NUL in the title": ({"title": "a\x00b"}, "title"),
    "NUL in the words": ({"agent_words": "a\x00b"}, "agent_words"),
    "no tool": ({"tool": ""}, "tool"),
    "a long tool": ({"tool": "x" * 101}, "tool"),
    "a line break in the tool": ({"tool": "a\nb"}, "tool"),
    "no external id": ({"external_id": ""}, "external_id"),
    "NUL in the external id": ({"external_id": "a\x00"}, "external_id"),
    "a list of arguments": ({"arguments": ["a"]}, "arguments"),
    "a number beyond 2^53": ({"arguments": {"n": BIG}}, "arguments"),
    "NUL in the arguments": ({"arguments": {"a": "b\x00"}}, "arguments"),
    "too many bytes": ({"arguments": {"a": "x" * 300_000}}, "arguments"),
    "too many keys": ({"arguments": {str(n): n for n in range(5_001)}}, "arguments"),
    "arguments that do not fit": ({"arguments_schema": SCHEMA, "arguments": {"keep_days": 1}}, "arguments.name"),
    "a schema that is none": ({"arguments_schema": {"type": "objekt"}}, "arguments_schema"),
    "a schema from elsewhere": ({"arguments_schema": {"$ref": "https://evil.example/s"}}, "arguments_schema"),
    "a huge schema": ({"arguments_schema": {"description": "x" * 70_000}}, "arguments_schema"),
    "an unknown verdict": ({"verdicts": ["approve", "maybe"]}, "verdicts.1"),
    "no verdict": ({"verdicts": []}, "verdicts"),
    "an unknown risk": ({"risk": "none"}, "risk"),
    "an unknown person": ({"audience": ["nobody-here"]}, "audience"),
    "a role that may not": ({"audience": ["operator"]}, "audience"),
    "a person who may not": ({"audience": ["olga"]}, "audience"),
    "a past deadline": ({"due_at": "2020-01-01T00:00:00Z"}, "due_at"),
    "a late deadline": ({"due_at": "2999-01-01T00:00:00Z"}, "due_at"),
    "a deadline without zone": ({"due_at": "2999-01-01T00:00:00"}, "due_at"),
    "a number for a deadline": ({"due_at": 4102444800}, "due_at"),
    "an unknown field": ({"approve_at_once": True}, "approve_at_once"),
    "no address": ({"deliver_to": {}}, "deliver_to"),
    "two addresses": ({"deliver_to": {**WEBHOOK, **BODY["deliver_to"]}}, "deliver_to"),
    "another address": ({"deliver_to": {"mail": {"to": "a@b.example"}}}, "deliver_to.mail"),
    "an unknown field of it": ({"deliver_to": {"webhook": {"url": "https://a.example", "secret": "x"}}}, "deliver_to."),
    "no signal": ({"deliver_to": {"temporal": {"workflow_id": "w"}}}, "deliver_to.temporal.signal"),
    "NUL in the signal": ({"deliver_to": {"temporal": {"workflow_id": "w", "signal": "a\x00"}}}, "deliver_to.temporal"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_taken_is_422_with_its_path(what: str, robot: User, alice: User, olga: User) -> None:
    change, path = REFUSED[what]
    paths = paths_of(ask(robot, **change))
    assert any(one.startswith(path) for one in paths), paths
    assert (Approval.objects.count(), OutboxEntry.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "//a.example/",
        "https:///x",
        "https://user:pass@a.example/",
        "https://a.example\\@b.example/",
        "https://a.example/#x",
        "https://a.example:99999/",
        "https://a.example:0/",
        "https://a b.example/",
        "https://ä.example/",
        "https://a.example/\u202e",
        "javascript:alert(1)",
        "http://127.0.0.1:8000/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",  # 10.0.0.1 through NAT64
        "http://[2002:a00:1::]/",  # through 6to4
        "http://[2001:0:a00:1::1]/",  # through Teredo
        "http://[2606:4700::1%251]/",
        "http://224.0.0.251/",
        "http://[ff0e::1]/",
        "http://169.254.169.254/latest/meta-data",
        "https://a.example/" + "x" * 2000,
    ],
)
def test_an_address_that_cannot_or_may_not_be_called_is_refused(url: str, robot: User) -> None:
    (path,) = paths_of(ask(robot, deliver_to={"webhook": {"url": url}}))
    assert path == "deliver_to.webhook.url"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"a": 0.1234567890123456789}', "cannot be kept exactly"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": NaN}', "no number"),
        ('{"a": ' + "[" * 80 + "]" * 80 + "}", "deep"),
    ],
)
def test_what_reading_would_change_is_refused(text: str, part: str, robot: User) -> None:
    body = json.dumps({**BODY, "arguments": "HERE"}).replace('"HERE"', text)
    told = problem(Caller(robot).post("approvals", body), 422)
    assert part in told["detail"]


def test_the_audience_may_be_fewer_than_the_policy_gives(robot: User, alice: User, bob: User) -> None:
    approval = asked(robot, audience=["bob"])
    assert (approval.audience, approval.people) == ([], ["bob"])
    with pytest.raises(MayNotDecide):
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    bob.groups.clear()
    bob = User.objects.get(pk=bob.pk)
    with pytest.raises(MayNotDecide):  # named by the program, and by the policy no more
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    bob.groups.add(Group.objects.get(name="reviewer"))
    bob = User.objects.get(pk=bob.pk)
    services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))


def test_a_role_of_the_policy_may_be_named(robot: User, alice: User, policy: Policy) -> None:
    policy(groups=("reviewer", "admin"), people=("olga",))
    User.objects.create_user("olga")
    assert asked(robot, external_id="1", audience=["admin"]).audience == ["admin"]
    both = asked(robot, external_id="2", audience=["operator", "olga", "alice"])
    assert (both.audience, both.people) == ([], ["alice", "olga"])


def test_too_few_people_for_the_quorum_are_refused(robot: User, alice: User, policy: Policy) -> None:
    policy(needed=2)
    assert paths_of(ask(robot, audience=["alice"])) == ["audience"]
    assert ask(robot, audience=["reviewer"]).status_code == 201


def test_who_is_named_stays_named_when_the_policy_changes(robot: User, alice: User, bob: User, policy: Policy) -> None:
    policy()
    approval = asked(robot, audience=["bob"])
    policy(groups=("reviewer", "admin"))
    with pytest.raises(StaleTerms):
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    approval.refresh_from_db()
    assert (approval.audience, approval.people, approval.version) == ([], ["bob"], 2)
    policy(groups=("admin",))
    with pytest.raises(StaleTerms):
        services.decide(approval_id=approval.pk, reviewer=bob, given=answer(approval))
    approval.refresh_from_db()
    assert approval.audience == ["admin"]  # nobody named is left: the policy's own people decide


def test_fewer_verdicts_stay_fewer_when_the_policy_changes(robot: User, alice: User, policy: Policy) -> None:
    policy()
    approval = asked(robot, verdicts=["approve", "reject"])
    policy(may_bulk=False)
    with pytest.raises(StaleTerms):
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    approval.refresh_from_db()
    assert (approval.version, approval.verdicts) == (2, ["approve", "reject"])


def test_verdicts_that_the_policy_takes_away_come_back_with_it_and_are_never_down_to_none(
    robot: User, alice: User, policy: Policy
) -> None:
    policy()
    approval = asked(robot, verdicts=["respond"])
    both = asked(robot, external_id="both", verdicts=["approve", "respond"])
    policy(verdicts=("approve", "reject"))
    for one in (approval, both):
        services.renew_terms(one.pk)
        one.refresh_from_db()
    assert (approval.verdicts, both.verdicts) == (["respond"], ["approve"])
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval, "respond", answer=1))
    policy()
    services.renew_terms(both.pk)
    both.refresh_from_db()
    assert (both.version, both.verdicts) == (3, ["approve", "respond"])


def test_what_was_asked_for_before_the_verdicts_were_kept_gets_none_that_it_has_not(
    robot: User, policy: Policy
) -> None:
    policy()
    approval = asked(robot, verdicts=["approve", "reject"])
    del approval.asked["verdicts"]
    approval.save(update_fields=["asked"])
    policy(may_bulk=False)
    services.renew_terms(approval.pk)
    approval.refresh_from_db()
    assert (approval.version, approval.verdicts) == (2, ["approve", "reject"])


def test_an_earlier_deadline_moves_the_end_of_the_ladder(robot: User) -> None:
    due_at = database_now() + timedelta(hours=30)
    approval = asked(robot, due_at=due_at.isoformat())
    assert [step["step"] for step in approval.ladder] == ["remind", "expire"]
    assert approval.due_at == due_at
    assert approval.ladder[-1]["at"] == due_at.isoformat()


def test_verdicts_may_be_fewer(robot: User, alice: User) -> None:
    approval = asked(robot, verdicts=["reject", "approve", "approve"])
    assert approval.verdicts == ["approve", "reject"]
    told = Caller(alice).post(
        f"approvals/{approval.pk}/decision",
        {"verdict": "respond", "version": 1, "digest": approval.digest, "answer": "no"},
    )
    assert paths_of(told) == ["verdict"]


def test_verdicts_that_the_policy_does_not_allow_are_refused(robot: User, policy: Policy) -> None:
    policy(verdicts=("approve", "reject"))
    assert paths_of(ask(robot, verdicts=["edit", "respond"])) == ["verdicts"]


def test_an_edit_of_its_arguments_is_held_against_its_schema(robot: User, alice: User) -> None:
    approval = asked(robot, arguments_schema=SCHEMA)
    edited = {"name": "orders-2019", "keep_days": 3}
    body = {"verdict": "edit", "version": 1, "digest": approval.digest, "edited_arguments": edited}
    told = Caller(alice).post(f"approvals/{approval.pk}/decision", body)
    assert paths_of(told) == ["edited_arguments.keep_days"]
    body["edited_arguments"] = {"name": "orders-2019", "keep_days": 14}
    assert Caller(alice).post(f"approvals/{approval.pk}/decision", body).status_code == 200


def test_what_needs_nobody_is_answered_at_once(robot: User, policy: Policy) -> None:
    policy(outcome="allow")
    told = ask(robot).json()
    assert (told["status"], told["decisions"][0]["by"]) == ("decided", "the policy")
    assert set(OutboxEntry.objects.values_list("kind", flat=True)) == {"decided", "start_watch"}


def test_a_program_takes_its_request_back(robot: User, alice: User) -> None:
    approval = asked(robot)
    services.claim(approval_id=approval.pk, by=alice)
    told = Caller(robot).post(f"approvals/{approval.pk}/withdraw", {"reason": "the index is gone"})
    assert (told.status_code, told.json()["status"]) == (200, "withdrawn")
    assert Approval.objects.get(pk=approval.pk).claimed_by is None
    again = Caller(robot).post(f"approvals/{approval.pk}/withdraw", {"reason": "the index is gone"})
    assert again.json() == told.json()
    wake = OutboxEntry.objects.get(kind="decided")
    assert wake.payload["run_id"] == approval.run_id
    event = AuditEvent.objects.get(kind="approval.withdrawn")
    assert (event.actor, event.body) == ("robot", {"reason": "the index is gone"})
    late = Caller(alice).post(
        f"approvals/{approval.pk}/decision", {"verdict": "approve", "version": 1, "digest": approval.digest}
    )
    assert problem(late, 409)["approval_status"] == "withdrawn"


def test_what_was_decided_cannot_be_taken_back(robot: User, alice: User) -> None:
    approval = asked(robot)
    given = Answer("reject", 1, approval.digest, "keep it")
    services.decide(approval_id=approval.pk, reviewer=alice, given=given)
    told = problem(Caller(robot).post(f"approvals/{approval.pk}/withdraw", {"reason": "too late"}), 409)
    assert (told["decided_by"], told["verdict"]) == ("alice", "reject")


@pytest.mark.parametrize("status", ["pending", "decided", "expired", "withdrawn"])
def test_its_page_names_the_program_and_links_to_no_run(status: str, robot: User, alice: User) -> None:
    approval = asked(robot, deliver_to=WEBHOOK)
    if status == "decided":
        services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    Approval.objects.filter(pk=approval.pk).update(status=status)
    client = Client()
    client.force_login(alice)
    for address in (reverse("approvals:approval", args=[approval.pk]), reverse("approvals:inbox")):
        page = client.get(address, {"status": "all"})
        assert page.status_code == 200
        assert "Delete the old index" in page.content.decode()
        assert f"/runs/{approval.run_id}" not in page.content.decode()
    page = client.get(reverse("approvals:approval", args=[approval.pk]))
    words = page.content.decode()
    assert "robot, a program" in words and "webhook at program.example" in words
    assert "The program gave no reason." in words and "the agent reads it" not in words
    assert "s3cret" not in words
    assert ("Delivered to the program" in words) == (status != "pending")


def test_an_answer_that_was_not_taken_stands_in_the_lane(robot: User, alice: User, ada: User) -> None:
    approval = asked(robot)
    services.decide(approval_id=approval.pk, reviewer=alice, given=answer(approval))
    Approval.objects.filter(pk=approval.pk).update(expected_by=database_now() - timedelta(minutes=1))
    client = Client()
    client.force_login(ada)
    words = client.get(reverse("approvals:lane")).content.decode()
    assert "Send it again now" in words and "for robot" in words
    assert f"/runs/{approval.run_id}" not in words
    OutboxEntry.objects.all().delete()
    assert client.post(reverse("approvals:redrive", args=[approval.pk]), {"action": "deliver"}).status_code == 302
    assert OutboxEntry.objects.get().payload["again"] is True


@pytest.mark.parametrize(
    ("letters", "change", "paths"), [(101, {}, [""]), (100, {}, []), (5, {"tool": "t" * 101}, ["tool"])]
)
def test_names_that_no_column_holds_are_refused_in_words(
    db: None, letters: int, change: dict[str, Any], paths: list[str]
) -> None:
    told = ask(service("r" * letters), **change)
    assert told.status_code == (422 if paths else 201), told.content
    if paths:
        assert paths_of(told) == paths


def test_a_run_id_with_a_slash_is_an_address_of_the_programs_own_and_breaks_no_page(robot: User, alice: User) -> None:
    approval = asked(robot, deliver_to={"temporal": {"workflow_id": "a/b", "run_id": "c/d", "signal": "go/on"}})
    client = Client()
    client.force_login(alice)
    for path in (f"/approvals/{approval.pk}/", "/inbox/", f"/inbox/review?id={approval.pk}"):
        assert client.get(path).status_code == 200
