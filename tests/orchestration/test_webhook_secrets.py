"""Each service account has a webhook secret of its own, two while one takes the other's place, and no row holds one."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from standardwebhooks import Webhook, WebhookVerificationError
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from approvals.models import Approval, AuditEvent
from console import tokens
from console.environment import environment
from orchestration import webhook_gateway, webhook_secrets
from orchestration.contracts import DeliverAnswer
from orchestration.errors import NoSuchService, SecretsAsTheyAre
from orchestration.models import AnswerDelivery, WebhookSecret
from orchestration.watching import WatchActivities
from signalbox_client import read_webhook
from tests.api_caller import Caller, problem
from tests.at_once import at_once
from tests.fakes import FakeTemporal
from tests.orchestration.conftest import go
from tests.orchestration.test_deliveries import answer, asked, robot
from tests.orchestration.webhook_receiver import Got, Receiver

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment(), "webhooks_to_private", True)


def admin(name: str = "ada") -> User:
    user, _ = User.objects.get_or_create(username=name)
    user.groups.add(Group.objects.get_or_create(name="admin")[0])
    return User.objects.get(pk=user.pk)


def known() -> User:
    """The account of a program that has been at work, so that it knows the installation's secret."""
    account = robot()
    tokens.create_token(owner=account)
    return account


def deliver(approval: Approval) -> None:
    activities = WatchActivities(FakeTemporal())
    go(ActivityEnvironment().run(activities.deliver_answer, DeliverAnswer(approval.pk)))


def sent(external_id: str) -> Got:
    """Have one answer sent, and return what the program got."""
    with Receiver() as receiver:
        deliver(answer(asked({"webhook": {"url": f"{receiver.url}/answers"}}, external_id=external_id)))
    (got,) = receiver.got
    return got


def fits(got: Got, secret: str) -> bool:
    try:
        Webhook(secret).verify(got.body, got.headers)
    except WebhookVerificationError:
        return False
    return True


def signatures(got: Got) -> int:
    return len(got.headers["webhook-signature"].split())


def create(by: User | None = None, **given: Any) -> str:
    return webhook_secrets.create(account=robot(), by=by, **given).secret


def test_no_answer_is_missed_from_the_installations_secret_to_the_second_of_ones_own() -> None:
    known()
    shared = webhook_gateway.secret()
    before = sent("1")
    assert fits(before, shared) and signatures(before) == 1, "a deployment from before goes on as it was"

    first = create()
    both = sent("2")
    assert fits(both, first) and fits(both, shared) and signatures(both) == 2
    webhook_secrets.retire(secret_id=WebhookSecret.objects.get(salt=b"").pk, by=None)
    alone = sent("3")
    assert fits(alone, first) and not fits(alone, shared) and signatures(alone) == 1

    second = create()
    turning = sent("4")
    assert fits(turning, first) and fits(turning, second) and not fits(turning, shared)
    assert read_webhook(turning.headers, turning.body, second, first).external_id == "4"
    assert read_webhook(turning.headers, turning.body, first).external_id == "4"
    webhook_secrets.retire(secret_id=WebhookSecret.objects.get(ending=first.rstrip("=")[-6:]).pk, by=None)
    after = sent("5")
    assert fits(after, second) and not fits(after, first)


def test_an_account_whose_program_never_knew_another_secret_has_its_own_alone() -> None:
    first = create()
    got = sent("1")
    assert fits(got, first) and signatures(got) == 1


def test_one_account_signs_nothing_for_another() -> None:
    mine = create()
    other = User.objects.create(username="other-bot")
    other.groups.add(Group.objects.get(name="service"))
    theirs = webhook_secrets.create(account=other, by=None).secret
    got = sent("1")
    assert fits(got, mine) and not fits(got, theirs)


def test_two_are_valid_at_most_and_one_at_least() -> None:
    known()
    create()
    with pytest.raises(SecretsAsTheyAre, match="Two secrets are valid already"):
        create()
    own, shared = webhook_secrets.keyring_of(robot()).valid
    assert shared.is_shared and not own.is_shared
    webhook_secrets.retire(secret_id=shared.pk, by=None)
    webhook_secrets.retire(secret_id=shared.pk, by=None)  # the same again
    with pytest.raises(SecretsAsTheyAre, match="only valid secret"):
        webhook_secrets.retire(secret_id=own.pk, by=None)
    assert AuditEvent.objects.filter(kind="webhook_secret.retired").count() == 1


def tried(call: Callable[[], Any]) -> bool:
    try:
        call()
    except SecretsAsTheyAre:
        return False
    return True


def test_many_at_once_make_one_and_leave_one() -> None:
    known()
    made = at_once(*[partial(tried, create)] * 4)
    assert sum(made) == 1, "the installation's is the other one"
    ids = list(WebhookSecret.objects.values_list("pk", flat=True))
    at_once(*[partial(tried, partial(webhook_secrets.retire, secret_id=pk, by=None)) for pk in ids])
    assert WebhookSecret.objects.filter(retired_at=None).count() == 1


def test_no_row_and_no_entry_of_the_record_holds_the_secret() -> None:
    secret = create(admin())
    with connection.cursor() as cursor:
        cursor.execute("SELECT w::text FROM orchestration_webhooksecret w")
        rows = str(cursor.fetchall())
    key = b64decode(secret.removeprefix("whsec_"))
    assert secret.removeprefix("whsec_") not in rows and key.hex() not in rows
    entry = AuditEvent.objects.get(kind="webhook_secret.created")
    assert (entry.actor, entry.body["account"]) == ("ada", "robot")
    assert entry.body["ending"] == secret.rstrip("=")[-6:] and secret not in str(entry.body)


def test_the_installations_secret_is_lost_with_djangos_key_as_well_unless_it_is_set(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known()
    create()
    settings.SECRET_KEY = "another key, of more than fifty characters, as Django wants it to be"
    with Receiver() as receiver:
        approval = answer(asked({"webhook": {"url": receiver.url}}))
        with pytest.raises(ApplicationError, match="retires one first"):
            deliver(approval)
        assert len(webhook_secrets.keyring_of(robot()).lost) == 2
        monkeypatch.setattr(environment(), "webhook_secret", "one that the owner sets and tells the programs")
        deliver(approval)
    (got,) = receiver.got
    assert fits(got, webhook_gateway.secret()) and signatures(got) == 1


def test_an_answer_waits_in_words_when_djangos_key_has_changed(settings: Any) -> None:
    create()
    settings.SECRET_KEY = "another key, of more than fifty characters, as Django wants it to be"
    with Receiver() as receiver:
        approval = answer(asked({"webhook": {"url": receiver.url}}))
        with pytest.raises(ApplicationError, match="SIGNALBOX_SECRET_KEY"):
            deliver(approval)
        assert "An admin makes a new secret" in AnswerDelivery.objects.get(pk=approval.pk).last_error
        assert webhook_secrets.keyring_of(robot()).lost
        second = create()
        deliver(approval)
    (got,) = receiver.got
    assert fits(got, second) and signatures(got) == 1, "what cannot be made any more signs nothing"


def page(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def form_key_of(text: str) -> str:
    return text.partition('name="form_key" value="')[2].partition('"')[0]


def test_an_admin_makes_one_on_the_page_and_sees_it_once() -> None:
    known()
    client = page(admin())
    listed = client.get(reverse("orchestration:programs")).content.decode()
    assert "The installation&#x27;s" in listed or "The installation's" in listed
    url, key = reverse("orchestration:make_secret", args=[robot().pk]), form_key_of(listed)
    made = client.post(url, {"form_key": key})
    again = client.post(url, {"form_key": key})
    secret = "whsec_" + made.content.decode().partition("whsec_")[2].partition("<")[0]
    assert secret in again.content.decode(), "a second click is the same click"
    assert made["Cache-Control"] == "no-store" and fits(sent("1"), secret)
    assert WebhookSecret.objects.count() == 2
    later = client.get(reverse("orchestration:programs")).content.decode()
    assert secret not in later and f"…{secret.rstrip('=')[-6:]}" in later
    refused = client.post(url, {"form_key": "other"})
    assert refused.status_code == 409 and "Two secrets are valid already" in refused.content.decode()
    shared = WebhookSecret.objects.get(salt=b"")
    client.post(reverse("orchestration:retire_secret", args=[shared.pk]))
    assert not fits(sent("2"), webhook_gateway.secret())


def test_the_key_of_a_click_shows_nobody_elses_secret() -> None:
    made = create(admin(), form_key="k")
    assert create(admin(), form_key="k") == made
    with pytest.raises(SecretsAsTheyAre, match="shown once"):
        create(admin("adam"), form_key="k")
    with pytest.raises(NoSuchService):
        create(robot(), form_key="k")


def test_no_key_of_a_caller_is_one_of_our_own() -> None:
    account = known()
    create(admin())
    with pytest.raises(SecretsAsTheyAre, match="Two secrets"):
        create(admin(), form_key=f"shared-{account.pk}")  # the name of the row that stands for the installation's


def test_programs_make_and_retire_one_with_an_admins_token() -> None:
    known()
    caller = Caller(admin())
    made = caller.post("webhook-secrets", {"account": "robot"}, key="k")
    assert (
        made.status_code == 201 and made.json() == caller.post("webhook-secrets", {"account": "robot"}, key="k").json()
    )
    assert fits(sent("1"), made.json()["secret"])
    own, shared = caller.get("webhook-secrets").json()["items"]
    assert (own["id"], own["account"], shared["is_shared"]) == (made.json()["id"], "robot", True)
    assert "secret" not in own
    assert caller.post(f"webhook-secrets/{shared['id']}/retire").json()["retired_by"] == "ada"
    assert "only valid" in problem(caller.post(f"webhook-secrets/{own['id']}/retire"), 409)["detail"]
    problem(caller.post("webhook-secrets", {"account": "ada"}), 404)
    problem(caller.post("webhook-secrets", {"account": "nobody"}), 404)


def test_the_command_makes_lists_and_retires(capsys: pytest.CaptureFixture[str]) -> None:
    known()
    call_command("webhook_secret", "robot")
    assert "the installation's secret" in capsys.readouterr().out
    call_command("webhook_secret", "robot", "--new")
    secret = capsys.readouterr().out.splitlines()[-1]
    assert fits(sent("1"), secret)
    call_command("webhook_secret", "robot", "--retire", webhook_gateway.secret())
    assert capsys.readouterr().out.splitlines() == [
        f"Answers to robot are signed with the secret that ends with {secret.rstrip('=')[-6:]}, its own."
    ]
    with pytest.raises(CommandError, match="only valid secret"):
        call_command("webhook_secret", "robot", "--retire", secret)
    with pytest.raises(CommandError, match="no valid secret that ends with 'wrong'"):
        call_command("webhook_secret", "robot", "--retire", "wrong")
    with pytest.raises(CommandError, match="There is no account 'nobody'"):
        call_command("webhook_secret", "nobody")
    with pytest.raises(CommandError, match="Name the service account"):
        call_command("webhook_secret", "--new")
    assert set(AuditEvent.objects.filter(kind__startswith="webhook_secret").values_list("actor", flat=True)) == {
        "manage.py"
    }
