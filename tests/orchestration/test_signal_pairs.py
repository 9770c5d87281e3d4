"""A signal that an account names first waits until an admin has confirmed it; the request itself waits for nothing."""

from __future__ import annotations

from functools import partial

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from django.urls import reverse
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from approvals.errors import NothingToRedrive
from approvals.models import AccountPerson, Approval, AuditEvent
from approvals.reading import receipt
from console.environment import environment
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import deliveries, services, signal_pairs
from orchestration.contracts import DeliverAnswer, GiveUpAnswer, StartRun
from orchestration.errors import PairRefused, SignalHeld
from orchestration.models import AnswerDelivery, SignalPair
from orchestration.watching import WatchActivities
from tests.api_caller import Caller, paths_of, problem
from tests.at_once import at_once
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go, reviewer
from tests.orchestration.test_deliveries import answer, asked, robot
from tests.orchestration.test_signal_rules import ask
from tests.page_client import text

HERE = {"temporal": {"workflow_id": "cleanup-17", "signal": "approved"}}
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_listed(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "signals", "")


@pytest.fixture
def theirs() -> FakeTemporal:
    temporal = FakeTemporal()
    temporal.started["cleanup-17"] = StartRun("cleanup-17", "theirs")
    return temporal


def admin(name: str = "ada") -> User:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name="admin")[0])
    return User.objects.get(pk=user.pk)


def deliver(theirs: FakeTemporal, approval: Approval) -> None:
    """Do what the watch does: try, and give up where nothing is to be tried again."""
    activities = WatchActivities(theirs)

    async def once() -> None:
        try:
            await ActivityEnvironment().run(activities.deliver_answer, DeliverAnswer(approval.pk))
        except ApplicationError as exc:
            assert exc.non_retryable
            await ActivityEnvironment().run(activities.give_up_answer, GiveUpAnswer(approval.pk))

    go(once())


def watches(approval: Approval) -> list[bool]:
    """Return for each watch that is asked for whether it takes the place of another."""
    entries = OutboxEntry.objects.filter(kind=Kind.START_WATCH, subject=approval.run_id).order_by("id")
    return [entry.payload["again"] for entry in entries]


def why(approval: Approval) -> str:
    found = receipt.standstill(Approval.objects.get(pk=approval.pk))
    return found.sentence if found else ""


def test_the_answer_waits_for_an_admin_and_is_sent_at_the_yes(theirs: FakeTemporal) -> None:
    told = ask(robot())
    assert told.status_code == 201
    approval = answer(Approval.objects.get(pk=told.json()["id"]))
    pair = SignalPair.objects.get()
    assert (pair.account, pair.signal, pair.namespace) == ("robot", "approved", environment().temporal_namespace)
    assert (pair.state, pair.asked_by) == ("waiting", approval.pk)
    deliver(theirs, approval)
    held = AnswerDelivery.objects.get()
    assert (theirs.program_signals, held.state, held.attempts) == ([], "held", 0)
    words = f"waits until an admin confirms that robot may signal approved in {pair.namespace}"
    assert words in why(approval)
    with pytest.raises(NothingToRedrive, match=words):
        services.redeliver(approval_id=approval.pk, by=reviewer())
    assert signal_pairs.settle(pair_id=pair.pk, by=admin(), confirmed=True).state == "confirmed"
    again = AnswerDelivery.objects.get()
    assert again.state == "trying" and again.began_at > held.began_at, "the time to deliver counts from here"
    assert watches(approval) == [False, True]
    deliver(theirs, approval)
    assert [one.signal for one in theirs.program_signals] == ["approved"]
    assert AnswerDelivery.objects.get().state == "delivered" and why(approval) == ""
    kinds = AuditEvent.objects.filter(kind__startswith="signal.").order_by("seq").values_list("kind", "actor")
    assert list(kinds) == [("signal.asked", "robot"), ("signal.confirmed", "ada")]


def test_a_no_is_shown_as_undelivered_and_the_next_request_is_told(theirs: FakeTemporal) -> None:
    approval = answer(asked(HERE))
    deliver(theirs, approval)
    pair = SignalPair.objects.get()
    for _ in range(2):
        signal_pairs.settle(pair_id=pair.pk, by=admin(), confirmed=False)
    assert "an admin refused that robot may signal approved" in why(approval)
    assert paths_of(ask(robot())) == ["deliver_to.temporal"]
    assert ask(robot(), signal="another").status_code == 201
    assert AuditEvent.objects.filter(kind="signal.refused").count() == 1
    signal_pairs.settle(pair_id=pair.pk, by=admin(), confirmed=True)
    deliver(theirs, approval)
    assert len(theirs.program_signals) == 1


def test_a_confirmation_that_is_taken_back_holds_from_the_next_attempt_on(theirs: FakeTemporal) -> None:
    approval = answer(asked(HERE))
    pair = SignalPair.objects.get()
    signal_pairs.settle(pair_id=pair.pk, by=admin(), confirmed=True)
    assert deliveries.begin(approval.pk) is not None
    signal_pairs.settle(pair_id=pair.pk, by=admin(), confirmed=False)
    deliver(theirs, approval)
    assert (theirs.program_signals, AnswerDelivery.objects.get().state) == ([], "held")


def test_a_yes_is_for_one_account_one_signal_one_namespace(theirs: FakeTemporal) -> None:
    yes = answer(asked(HERE))
    others = [
        answer(asked({"temporal": HERE["temporal"] | changes}, external_id=repr(changes)))
        for changes in ({"signal": "terminate"}, {"namespace": "theirs"})
    ]
    for approval in (yes, *others):
        deliver(theirs, approval)
    assert SignalPair.objects.count() == 3
    signal_pairs.settle(pair_id=SignalPair.objects.get(asked_by=yes.pk).pk, by=admin(), confirmed=True)
    assert [watches(one) for one in (yes, *others)] == [[False, True], [False], [False]]
    deliver(theirs, answer(asked(HERE, external_id="job/18")))
    assert len(theirs.program_signals) == 1


def test_a_request_of_before_is_held_as_well(theirs: FakeTemporal) -> None:
    approval = answer(asked(HERE))
    SignalPair.objects.all().delete()
    deliver(theirs, approval)
    assert SignalPair.objects.get().asked_by == approval.pk and theirs.program_signals == []


def test_webhooks_wait_for_nobody() -> None:
    approval = answer(asked({"webhook": {"url": "https://p.example/"}}))
    assert deliveries.begin(approval.pk) is not None and not SignalPair.objects.exists()


def test_what_the_setting_answers_is_not_asked(theirs: FakeTemporal, monkeypatch: pytest.MonkeyPatch) -> None:
    held = answer(asked(HERE))
    deliver(theirs, held)
    for listed in ("*", f"robot={environment().temporal_namespace}/approved"):
        monkeypatch.setattr(environment(), "signals", listed)
        deliver(theirs, answer(asked(HERE, external_id=listed)))
    assert len(theirs.program_signals) == 2
    services.redeliver(approval_id=held.pk, by=reviewer())  # it was held before it was listed
    deliver(theirs, held)
    assert len(theirs.program_signals) == 3


def test_an_account_that_the_setting_does_not_name_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "signals", "another=default/approved")
    approval = answer(asked(HERE))
    with pytest.raises(SignalHeld):
        deliveries.begin(approval.pk)


def test_only_admins_settle_it_and_never_the_account_itself() -> None:
    asked(HERE)
    pair = SignalPair.objects.get()
    robot().groups.add(Group.objects.get_or_create(name="admin")[0])
    alter_ego = admin("second")
    for user in (robot(), alter_ego):
        AccountPerson.objects.create(user=user, person="one")
    for by in (reviewer(), User.objects.get(username="robot"), alter_ego):
        with pytest.raises(PairRefused):
            signal_pairs.settle(pair_id=pair.pk, by=by, confirmed=True)
    assert SignalPair.objects.get().state == "waiting"


def test_a_request_that_is_rolled_back_leaves_no_pair() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        asked(HERE)
        raise RuntimeError
    assert not SignalPair.objects.exists()


def test_a_yes_in_the_moment_of_the_attempt_forgets_no_answer(theirs: FakeTemporal) -> None:
    for number in range(8):
        to = {"temporal": HERE["temporal"] | {"signal": f"s{number}"}}
        approval = answer(asked(to, external_id=str(number)))
        pair = SignalPair.objects.get(signal=f"s{number}")
        at_once(
            partial(deliver, theirs, approval),
            partial(signal_pairs.settle, pair_id=pair.pk, by=admin(), confirmed=True),
        )
        state = AnswerDelivery.objects.get(pk=approval.pk).state
        assert state == "delivered" or (state == "trying" and watches(approval) == [False, True])


def test_a_watch_that_was_sent_away_gives_nothing_up_that_a_yes_has_begun_anew(theirs: FakeTemporal) -> None:
    approval = answer(asked(HERE))
    with pytest.raises(SignalHeld):
        deliveries.begin(approval.pk)
    signal_pairs.settle(pair_id=SignalPair.objects.get().pk, by=admin(), confirmed=True)
    deliveries.give_up(approval.pk)
    assert AnswerDelivery.objects.get(pk=approval.pk).state == "trying" and "by itself" in why(approval)
    assert deliveries.begin(approval.pk) is not None, "the new watch's first attempt"
    deliveries.give_up(approval.pk)
    assert AnswerDelivery.objects.get(pk=approval.pk).state == "undelivered", "which it may give up"


def test_the_list_is_read_page_by_page_those_that_wait_first(client: Client) -> None:
    common = {"account": "robot", "namespace": "default", "asked_by": "apr_1"}
    for number in range(7):
        state = "waiting" if number % 3 == 0 else "confirmed"
        SignalPair.objects.create(signal=f"s{number}", state=state, **common)
    for limit in (2, 3, 200):
        told = [one["signal"] for page in Caller(admin()).all("signals", limit=limit) for one in page]
        assert told == ["s6", "s3", "s0", "s5", "s4", "s2", "s1"]
    rows = [SignalPair(signal=f"more {number}", state="refused", **common) for number in range(200)]
    SignalPair.objects.bulk_create(rows)
    client.force_login(admin())
    first = client.get(reverse("orchestration:signals"))
    assert "More signals" in text(first) and "robot: s5 in" not in text(first)
    rest = text(client.get(f"{reverse('orchestration:signals')}?cursor={first.context['next']}"))
    assert "robot: s5 in" in rest and "robot: s6 in" not in rest and "More signals" not in rest


def test_the_page_confirms_and_refuses_without_script() -> None:
    approval = asked(HERE)
    pair = SignalPair.objects.get()
    page, confirm, refuse = (
        reverse("orchestration:signals"),
        reverse("orchestration:confirm_signal", args=[pair.pk]),
        reverse("orchestration:refuse_signal", args=[pair.pk]),
    )
    as_reviewer, as_admin = Client(), Client()
    as_reviewer.force_login(reviewer())
    as_admin.force_login(admin())
    shown = as_reviewer.get(page).content.decode()
    assert approval.pk in shown and confirm not in shown
    assert as_reviewer.post(confirm).status_code == 403
    assert "1 signal to confirm" in as_reviewer.get(reverse("console:system")).content.decode()
    shown = as_admin.get(page).content.decode()
    assert confirm in shown and refuse in shown
    assert "are being sent" in as_admin.post(confirm, follow=True).content.decode()
    shown = as_admin.get(page).content.decode()
    assert confirm not in shown and refuse in shown and "by ada" in shown
    as_admin.post(refuse)
    assert SignalPair.objects.get().state == "refused"
    assert "to confirm" not in as_admin.get(reverse("console:system")).content.decode()


def test_an_admin_confirms_by_the_api_as_on_the_page(theirs: FakeTemporal) -> None:
    approval = answer(asked(HERE))
    deliver(theirs, approval)
    assert theirs.program_signals == []
    ada = Caller(admin())
    (listed,) = ada.get("signals").json()["items"]
    assert (listed["account"], listed["signal"], listed["state"]) == (approval.agent, "approved", "waiting")
    assert (listed["asked_by"], listed["settled_by"], listed["settled_at"]) == (approval.pk, None, None)
    pair = f"signals/{listed['id']}"
    assert paths_of(ada.post(pair, {"confirmed": "yes"})) == ["confirmed"]
    assert paths_of(ada.post(pair, {"confirmed": True, "account": "other"})) == ["account"]
    confirmed = ada.post(pair, {"confirmed": True})
    assert (confirmed.status_code, confirmed.json()["state"], confirmed.json()["settled_by"]) == (
        200,
        "confirmed",
        "ada",
    )
    assert ada.post(pair, {"confirmed": True}).json() == confirmed.json()  # the same click again
    assert AuditEvent.objects.filter(kind="signal.confirmed").count() == 1
    deliver(theirs, approval)
    assert len(theirs.program_signals) == 1
    assert ada.post(pair, {"confirmed": False}).json()["state"] == "refused"


def test_the_api_lets_nobody_confirm_for_themselves_and_hides_what_is_not_there(theirs: FakeTemporal) -> None:
    approval = asked(HERE)
    pair = SignalPair.objects.get(account=approval.agent)
    account = User.objects.get(username=approval.agent)
    account.groups.add(Group.objects.get_or_create(name="admin")[0])
    problem(Caller(account).post(f"signals/{pair.pk}", {"confirmed": True}), 404)
    behind = admin("grace")
    for one in (behind, account):
        AccountPerson.objects.create(user=one, person="grace hopper")
    problem(Caller(behind).post(f"signals/{pair.pk}", {"confirmed": True}), 404)
    problem(Caller(admin()).post("signals/987654", {"confirmed": True}), 404)
    pair.refresh_from_db()
    assert pair.state == "waiting"
