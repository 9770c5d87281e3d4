from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from console import roles, tokens
from tests.api_caller import Caller


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    call_command(*command)
    return capsys.readouterr().out.splitlines()[-1]


def test_one_command_makes_a_program_that_may_ask(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    token = printed(capsys, "create_service", "cleanup-bot")
    account = User.objects.get(username="cleanup-bot")
    assert tokens.owner_of(token) == account
    assert roles.roles_of(account) == {"service"} and not account.has_usable_password()
    assert Caller(token=token).post("approvals", {}).status_code == 422  # it may ask; this is no question


def test_a_second_call_says_how_to_make_a_token(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    first = printed(capsys, "create_service", "cleanup-bot")
    with pytest.raises(CommandError, match=r"exists already\. For another token: manage.py create_token cleanup-bot"):
        call_command("create_service", "cleanup-bot")
    second = printed(capsys, "create_token", "cleanup-bot")
    assert tokens.owner_of(first) == tokens.owner_of(second) == User.objects.get()
    User.objects.filter(username="cleanup-bot").update(is_active=False)
    with pytest.raises(CommandError, match="is disabled"):
        call_command("create_service", "cleanup-bot")


def test_a_person_does_not_become_a_service(alice: User) -> None:
    with pytest.raises(CommandError, match=r"it is no service\. Choose another name"):
        call_command("create_service", "alice")
    assert roles.roles_of(User.objects.get(pk=alice.pk)) == {"reviewer"}


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 151, "a\nb"])
def test_a_name_that_no_account_can_have_is_refused_in_one_line(db: None, name: str) -> None:
    with pytest.raises(CommandError, match="No account can be called") as told:
        call_command("create_service", name)
    assert "\n" not in str(told.value) and not User.objects.exists()


def test_one_of_the_demo_accounts_is_a_program(db: None, tmp_path: Path) -> None:
    path = tmp_path / "demo-accounts.json"
    call_command("create_demo_accounts", "--file", str(path))
    accounts = {one["username"]: one for one in json.loads(path.read_text())}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {"alice", "bob", "olga", "ada", "eve", "robot"} == set(accounts)
    assert set(accounts["robot"]) == {"username", "password", "token", "roles"}
    assert accounts["robot"]["roles"] == ["service"]
    assert Caller(token=accounts["robot"]["token"]).post("approvals", {}).status_code == 422
