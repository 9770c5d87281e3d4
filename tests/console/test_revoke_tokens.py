from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from console import tokens


def test_revoked_tokens_are_unknown_at_once_and_other_peoples_stay(
    alice: User, bob: User, capsys: pytest.CaptureFixture[str]
) -> None:
    hers, his = tokens.create_token(owner=alice), tokens.create_token(owner=bob)
    call_command("revoke_tokens", "alice")
    assert capsys.readouterr().out == "Revoked: 1\n"
    assert tokens.owner_of(hers) is None
    assert tokens.owner_of(his) == bob


def test_nobody_of_that_name_is_told_in_words(db: None) -> None:
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        call_command("revoke_tokens", "nobody")
