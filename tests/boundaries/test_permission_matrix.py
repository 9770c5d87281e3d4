"""Every page and every command, with who may use it. What is new fails until it is here.

The JSON API has its own table, with bodies: tests/console/test_api_access.py; so have the messages of the socket:
tests/console/test_live_socket.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

SEE = frozenset({"reviewer", "operator", "admin"})
DECIDE = frozenset({"reviewer", "admin"})
ADMIN = frozenset({"admin"})
ACT = frozenset({"operator", "admin"})
START = frozenset({"operator", "admin", "service"})
ANYBODY = frozenset({"stranger", "nobody", "reviewer", "operator", "admin", "service"})
SIGNED_IN = ANYBODY - {"stranger"}
WHO = sorted(ANYBODY)

#: name of an address -> who may GET it, who may POST to it; `None`: that method is not taken
PAGES: dict[str, tuple[frozenset[str] | None, frozenset[str] | None]] = {
    "home": (ANYBODY, None),  # leads to the inbox, which asks
    "console:system": (SEE, None),
    "console:search": (SEE, None),
    "console:pending": (SEE, None),
    "console:stuck_count": (SEE, None),
    "console:notices": (SEE, None),
    "console:parts": (SEE, None),  # each part is asked of its own view, by the same person
    "console:typed": (SIGNED_IN, SIGNED_IN),  # what oneself has typed, which is given to nobody else
    "approvals:inbox": (SEE, None),
    "approvals:views": (SEE, SEE),
    "approvals:view": (None, SEE),  # the owner's, and an admin's if it is shared; others are told whose it is
    "approvals:review": (SEE, None),
    "approvals:decide_together": (None, SEE),  # as with one: the service says for each item who is not meant
    "approvals:export": (SEE, None),
    "approvals:approval": (SEE, None),
    "approvals:decide": (None, SEE),  # the service says 403 to who is not meant; the page tells it in place
    "approvals:find_out": (SEE, None),
    "approvals:edit": (SEE, SEE),
    "approvals:compare": (SEE, None),
    "approvals:lane": (SEE, None),
    "approvals:redrive": (None, SEE),
    "approvals:team": (SEE, None),
    "approvals:presence": (SEE, None),
    "approvals:claim": (None, SEE),  # only who may decide the request holds it: the service says so
    "approvals:release": (None, SEE),
    "approvals:reassign": (None, SEE),
    "approvals:comment": (None, SEE),
    "approvals:make_standing": (None, DECIDE),
    "approvals:delegations": (SEE, None),
    "approvals:delegate": (None, SEE),  # for oneself; the service asks for an admin for others
    "approvals:revoke_delegation": (None, SEE),
    "approvals:confirm_delegation": (None, SEE),  # whom it is for, and a second admin: the service says so
    "approvals:standing": (SEE, None),
    "approvals:standing_one": (SEE, None),
    "approvals:revoke_standing": (None, SEE),  # who made it, and admins
    "approvals:reviewers": (DECIDE, None),
    "approvals:policy": (SEE, None),
    "approvals:policy_edit": (ADMIN, ADMIN),
    "approvals:policy_version": (SEE, None),
    "approvals:policy_settle": (None, ADMIN),
    "approvals:record": (ADMIN, None),
    "approvals:verify_record": (None, ADMIN),
    "orchestration:runs": (SEE, None),
    "orchestration:stuck": (SEE, None),
    "orchestration:run_views": (SEE, SEE),
    "orchestration:run_view": (None, SEE),
    "orchestration:start": (START, START),
    "orchestration:run": (SEE, None),
    "orchestration:progress": (SEE, None),
    "orchestration:run_rest": (SEE, None),
    "orchestration:timeline": (SEE, None),
    "orchestration:events": (SEE, None),
    "orchestration:state": (SEE, None),
    "orchestration:checkpoint": (SEE, None),
    "orchestration:value": (SEE, None),
    "orchestration:difference": (SEE, None),
    "orchestration:act": (ACT, ACT),
    "orchestration:act_on_many": (ACT, ACT),
    "orchestration:bulk": (ACT, None),
    "orchestration:stop_bulk": (None, ACT),
    "orchestration:batches": (SEE, None),
    "orchestration:start_batch": (START, START),
    "orchestration:batch": (SEE, None),
    "orchestration:act_on_batch": (None, ACT),
    "orchestration:batch_results": (SEE, None),
    "orchestration:think_again": (SEE, SEE),  # who may decide it or act on runs: the service says who
    "orchestration:usage": (SEE, None),
    "orchestration:programs": (ADMIN, None),
    "orchestration:make_secret": (None, ADMIN),
    "orchestration:retire_secret": (None, ADMIN),
    "orchestration:storage": (ACT, None),
    "orchestration:workflow": (ACT, None),
    "orchestration:send": (ACT, ACT),
    "orchestration:signals": (SEE, None),
    "orchestration:confirm_signal": (None, ADMIN),  # never the account itself: the service says so
    "orchestration:refuse_signal": (None, ADMIN),
    "dataplane:data": (SEE, None),
    "dataplane:flow_runs": (SEE, None),
    "dataplane:flow_run": (SEE, None),
    "dataplane:dataset": (SEE, None),
    "dataplane:refresh": (None, ADMIN),
    "dataplane:flow_run_work": (ACT, None),
    "dataplane:flow_run_log": (SEE, None),
    "dataplane:flow_run_act": (None, ADMIN),
    "dataplane:work_pools": (ACT, None),
    "dataplane:version_origin": (SEE, None),
    "dataplane:version_difference": (SEE, None),
    "dataplane:make_current": (ADMIN, ADMIN),
    "dataplane:backfill": (ADMIN, ADMIN),
    "dataplane:search": (SEE, ADMIN),
    "dataplane:dry_run": (SEE, None),
    "dataplane:start": (SEE, SEE),  # by the registration's roles: the service says who
    "dataplane:schedules": (SEE, ADMIN),
    "dataplane:version": (SEE, None),
    "account_login": (ANYBODY, ANYBODY),
    "account_logout": (ANYBODY, ANYBODY),
    "account_inactive": (ANYBODY, None),
    "account_signup": (ANYBODY, ANYBODY),  # closed, and says so
    "account_reauthenticate": (SIGNED_IN, SIGNED_IN),
    "account_change_password": (SIGNED_IN, SIGNED_IN),
}

#: command -> what gives the right to run it. Commands run on the machine, as whoever owns its secrets: none takes a
#: role from a person, and none decides.
COMMANDS: dict[str, str] = {
    "check_data": "reads the project's own files, and asks Prefect",
    "check_agent_servers": "reads the project's own files, and asks the servers",
    "check_agents": "reads the project's own files",
    "new_agent": "writes files into a folder of who calls it",
    "check_vendor": "reads the project's own files",
    "create_demo_accounts": "makes accounts: the machine's owner",
    "create_service": "makes an account and a token: the machine's owner",
    "create_token": "makes tokens: the machine's owner",
    "drill": "runs a stack of its own",
    "export_evidence": "reads everything: the machine's owner",
    "measure_search": "reads documents' questions and keeps a figure: the machine's owner",
    "migrate": "changes tables: the machine's owner",
    "prepare_database": "changes tables: the machine's owner",
    "publish_audit_head": "reads the record's head",
    "refresh": "asks for a refresh as the system itself: the machine's owner",
    "revoke_tokens": "takes tokens away: the machine's owner",
    "run_relay": "a process of the stack",
    "run_worker": "a process of the stack",
    "seed_attention_check": "opens a request that is never executed: the machine's owner",
    "serve_flows": "a process of the stack",
    "setup_checkpoints": "makes tables: the machine's owner",
    "start_batch": "starts runs in somebody's name: the machine's owner",
    "start_demo_runs": "starts the example's runs as olga: the machine's owner",
    "up": "runs the stack",
    "verify_audit": "reads the record",
    "webhook_secret": "shows a secret: the machine's owner",
    "write_docs": "writes the project's own files",
}
_ARGUMENTS = {
    "view_id": 1,
    "approval_id": "apr_none",
    "run_id": "run-none",
    "bulk_id": "bulk-none",
    "batch_id": "batch-none",
    "form": "csv",
    "action": "end",
    "checkpoint_id": "none",
    "flow_run_id": "00000000-0000-4000-8000-000000000009",
    "dataset": "none",
    "number": 1,
    "delegation_id": 1,
    "pair_id": 1,
    "account_id": 1,
    "secret_id": 1,
    "standing_id": "std_none",
    "refresh_id": "rfr_none",
}


def addresses() -> Iterator[tuple[str, str]]:
    """Yield the name and the path of every address but the API's and the superusers' own admin."""
    yield from _walk(get_resolver().url_patterns, "/", "")


def _walk(patterns: Any, path: str, space: str) -> Iterator[tuple[str, str]]:
    for one in patterns:
        here = path + str(one.pattern)
        if isinstance(one, URLResolver):
            if one.namespace not in ("api", "admin"):
                inner = ":".join(filter(None, (space, one.namespace)))
                yield from _walk(one.url_patterns, here, inner)
        elif isinstance(one, URLPattern):
            yield ":".join(filter(None, (space, one.name))), here


def person(role: str) -> User | None:
    if role == "stranger":
        return None
    user = User.objects.create(username=f"somebody-{role}", password="one that nothing matches")
    if role != "nobody":
        user.groups.add(Group.objects.get_or_create(name=role)[0])
    return user


def browser(role: str) -> Client:
    client = Client()
    user = person(role)
    if user is not None:
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def filled(path: str) -> str:
    for name, value in _ARGUMENTS.items():
        for kind in ("id:", "str:", "slug:", "int:", ""):
            path = path.replace(f"<{kind}{name}>", str(value))
    assert "<" not in path, f"give {path} an argument in _ARGUMENTS"
    return path


def is_let_in(response: Any) -> bool:
    to_login = response.status_code == 302 and "/accounts/login/" in response["Location"]
    return not to_login and response.status_code not in (401, 403)


def test_every_address_has_been_given_a_line() -> None:
    assert sorted({name for name, _ in addresses()}) == sorted(PAGES)


@pytest.mark.parametrize("role", WHO)
def test_each_role_gets_the_pages_that_are_meant_for_it_and_no_others(role: str, db: None) -> None:
    client = browser(role)
    signed_in = deepcopy(client.cookies)
    faults: list[str] = []
    for name, path in sorted(addresses()):
        may_get, may_post = PAGES[name]
        for method, may in (("GET", may_get), ("POST", may_post)):
            with transaction.atomic():  # what one does, another address must not find
                response = client.get(filled(path)) if method == "GET" else client.post(filled(path), {})
                transaction.set_rollback(True)
            client.cookies = deepcopy(signed_in)  # one of them signs out
            if may is None:
                is_right = response.status_code in (404, 405) or not is_let_in(response)
            else:
                is_right = is_let_in(response) == (role in may)
            if not is_right:
                faults.append(f"{method} {path} ({name}): {response.status_code} {response.get('Location', '')}")
    assert faults == []


def test_the_admin_site_opens_for_no_role(db: None) -> None:
    for role in WHO:
        response = browser(role).get("/admin/")
        assert response.status_code == 302 and "/admin/login/" in response["Location"]


def test_every_command_has_been_given_a_line() -> None:
    ours = {path.stem for path in Path(settings.BASE_DIR).glob("*/management/commands/[!_]*.py")}
    assert ours == set(COMMANDS)


def test_no_command_decides() -> None:
    project = Path(settings.BASE_DIR)
    for source in project.glob("*/management/commands/*.py"):
        text = source.read_text()
        assert "services.decide" not in text and "deciding" not in text, source
