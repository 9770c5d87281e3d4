"""Fill the inbox of a database that is for measuring only: pending requests as five agents would ask them.

    .venv/bin/python -m bench.seed_inbox 100000      (DATABASE_URL, or the running stack's)

Several tools, risks and owners, people who may decide and people who may not, deadlines from minutes to three days,
two of a hundred a repetition of an earlier request. The same number makes the same requests. Rows go in by COPY, with
their versions and without audit entries: the record of such a database proves nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from approvals.proposal.terms import Terms

REPEATED = 0.02
PEOPLE = ("alice", "bob", "carol", "dan", "erin", "frank")  # named one by one where a group is not
STARTERS = ("olga", "otto", "alice", "bob", None)  # who starts runs; some of them review too


def _words(text: str) -> list[str]:
    return text.split()


CITIES = _words("Aarhus Bremen Cádiz Dundee Espoo Florence Gdańsk Haarlem Innsbruck Jena Kraków Lyon Malmö Nantes")
FIRST = _words("Mara Jonas Aiko Tomás Ngozi Priya Liam Zofia Emeka Hanna Luca Yara Mikko Sara Omar Ines")
LAST = _words("Lindqvist Okafor Tanaka Moreau Kowalska Haddad Novák Fischer Silva Rossi Larsen Papadakis")
THINGS = _words("lamp chair kettle jacket headset tent bicycle printer blender sofa router camera backpack mirror")
FAULTS = _words("broken late wrong missing scratched leaking incomplete counterfeit overheating noisy")


@dataclass(frozen=True)
class Kind:
    """What one agent asks for with one of its tools."""

    agent: str
    tool: str
    risk: str
    weight: int  # how often, among all
    groups: tuple[str, ...] = ("reviewer",)
    people_share: float = 0.0  # of these, single people are named in place of groups
    hours: int = 72  # until the deadline
    may_bulk: bool = True
    needed: int = 1


KINDS = (
    Kind("support", "issue_refund", "high", 22),
    Kind("support", "send_email", "medium", 30),
    Kind("support", "close_ticket", "low", 12, hours=24),
    Kind("billing", "change_invoice", "medium", 9, people_share=0.2),
    Kind("billing", "write_off_debt", "high", 2, ("admin",), may_bulk=False, needed=2),
    Kind("logistics", "reroute_parcel", "low", 11, hours=8),
    Kind("logistics", "book_carrier", "medium", 6, people_share=0.1, hours=24),
    Kind("procurement", "order_goods", "high", 3, people_share=0.5, needed=2),
    Kind("procurement", "ask_for_quote", "low", 3),
    Kind("people", "grant_leave", "low", 2, people_share=1.0),
)

COLUMNS = (
    *("id", "external_id", "kind", "source", "status", "version", "canonical", "digest", "tool", "summary"),
    *("agent_words", "arguments_schema", "tool_is_known", "tool_risk", "risk", "agent", "agent_owners", "run_id"),
    *("interrupt_id", "checkpoint_id", "dataset_versions", "requested_by_id", "policy_version", "terms", "audience"),
    *("people", "verdicts", "needed", "ladder", "steps_climbed", "opened_at", "due_at", "is_seeded", "asked"),
)


def requests(count: int, accounts: dict[str, int], now: datetime, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the columns of so many pending requests; `first` is the number of the first one."""
    chance = random.Random(first + count)
    earlier: list[tuple[Kind, dict[str, Any]]] = []
    weights = [kind.weight for kind in KINDS]
    for number in range(first, first + count):
        if earlier and chance.random() < REPEATED:
            kind, arguments = chance.choice(earlier)
        else:
            kind = chance.choices(KINDS, weights)[0]
            arguments = _arguments(kind, number, chance)
            if len(earlier) < 4000:
                earlier.append((kind, arguments))
        waited = timedelta(hours=kind.hours) * chance.random() * 0.98
        yield _row(kind, arguments, number, now - waited, accounts, chance)


def _arguments(kind: Kind, number: int, chance: random.Random) -> dict[str, Any]:
    order = f"{chance.choice('ABCDEFGH')}-{100000 + number}"
    name = f"{chance.choice(FIRST)} {chance.choice(LAST)}"
    amount = f"{chance.randint(5, 900)}.{chance.randint(0, 99):02}"
    thing, fault, city = chance.choice(THINGS), chance.choice(FAULTS), chance.choice(CITIES)
    if kind.tool in ("issue_refund", "change_invoice", "write_off_debt"):
        reason = f"The {thing} arrived {fault}; {name} sent pictures."
        return {"order_id": order, "amount": amount, "currency": "EUR", "customer": name, "reason": reason}
    if kind.tool == "send_email":
        address = f"{name.split()[0].lower()}.{number}@example.org"
        text = f"Dear {name},\n\nwe are sorry that your {thing} was {fault}. We have refunded {amount} EUR.\n\nThe team"
        return {"to": address, "subject": f"Your order {order}", "body": text}
    if kind.tool in ("reroute_parcel", "book_carrier"):
        return {"parcel": f"P{order}", "to": {"city": city, "name": name}, "express": chance.random() < 0.2}
    if kind.tool in ("order_goods", "ask_for_quote"):
        lines = [{"sku": f"{thing}-{n}", "quantity": chance.randint(1, 40)} for n in range(chance.randint(1, 4))]
        return {"supplier": f"{chance.choice(LAST)} Ltd, {city}", "lines": lines, "limit": amount}
    return {"about": order, "person": name, "days": chance.randint(1, 20)}


@cache
def _terms(kind: Kind, people: tuple[str, ...]) -> tuple[Terms, str]:
    """Return the terms of one agent's tool, and as JSON: making them takes a third of the time of a row."""
    from approvals.proposal.terms import Terms

    terms = Terms(
        rule=f"{kind.agent} {kind.tool}",
        policy_version="bench/1",
        groups=() if people else kind.groups,
        people=people,
        needed=kind.needed,
        four_eyes=("requester", "editor", "owner"),
        may_bulk=kind.may_bulk,
        expire_after=kind.hours * 3600,
        risk=kind.risk,
    )
    return terms, json.dumps(terms.to_json())


def _row(
    kind: Kind,
    arguments: dict[str, Any],
    number: int,
    opened: datetime,
    accounts: dict[str, int],
    chance: random.Random,
) -> dict[str, Any]:
    from approvals.models import new_approval_id
    from approvals.policies.asking import ladder_from
    from approvals.proposal.canonical import canonicalise, digest_of

    canonical = canonicalise(kind.tool, arguments)
    named = tuple(sorted(chance.sample(PEOPLE, 2))) if chance.random() < kind.people_share else ()
    terms, terms_json = _terms(kind, named)
    starter = chance.choice(STARTERS)
    due = opened + timedelta(hours=kind.hours)
    key = next(iter(arguments.values()))
    return {
        "id": new_approval_id(),
        "external_id": f"bench-{number}",
        "kind": "action",
        "source": "agent",
        "status": "pending",
        "version": 1,
        "canonical": canonical,
        "digest": digest_of(canonical),
        "tool": kind.tool,
        "summary": f"{kind.tool.replace('_', ' ').capitalize()} for {key}"[:500],
        "agent_words": f"The customer's case was read and the handbook allows this. Case {number} is like the others.",
        "arguments_schema": json.dumps({"type": "object"}),
        "tool_is_known": True,
        "tool_risk": kind.risk,
        "risk": kind.risk,
        "agent": kind.agent,
        "agent_owners": json.dumps(["owen"]),
        "run_id": f"{kind.agent}-{number // 2:07}",
        "interrupt_id": f"i{number}",
        "checkpoint_id": f"c{number}",
        "dataset_versions": json.dumps([{"dataset": "handbook", "version": 3}]),
        "requested_by_id": accounts[starter] if starter else None,
        "policy_version": terms.policy_version,
        "terms": terms_json,
        "audience": json.dumps(list(terms.groups)),
        "people": json.dumps(list(terms.people)),
        "verdicts": json.dumps(list(terms.verdicts)),
        "needed": kind.needed,
        "ladder": json.dumps([{"step": step, "at": at.isoformat()} for step, at in ladder_from(terms, opened)]),
        "steps_climbed": 0,
        "opened_at": opened,
        "due_at": due,
        "is_seeded": False,
        "asked": "{}",
    }


def seed(count: int) -> None:
    """Add so many pending requests to Django's database, in one transaction, and let PostgreSQL learn of them.

    As the owner of the tables.
    """
    from django.contrib.auth.models import Group, User
    from django.db import connection, transaction

    accounts = {}
    for name in {*PEOPLE, *filter(None, STARTERS), "owen"}:
        user, _ = User.objects.get_or_create(username=name, defaults={"email": f"{name}@example.org"})
        role = "operator" if name in ("olga", "otto", "owen") else "reviewer"
        user.groups.add(Group.objects.get_or_create(name=role)[0])
        accounts[name] = user.pk
    now = datetime.now(UTC)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM approvals_approval WHERE external_id LIKE 'bench-%'")
        first = cursor.fetchone()[0]
        with without_indexes("approvals_approval"):
            with cursor.copy(f"COPY approvals_approval ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in requests(count, accounts, now, first):
                    copy.write_row([row[column] for column in COLUMNS])
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # indexes wait for no check
        cursor.execute(_VERSIONS)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE approvals_approval")


@contextmanager
def without_indexes(table: str) -> Iterator[None]:
    """Take the table's indexes away and make them again after the block, which is four times as quick."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(_INDEXES, [table])
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {connection.ops.quote_name(name)}")
        yield
        cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
        for _, definition in indexes:
            cursor.execute(definition)


_INDEXES = """
SELECT i.indexname, i.indexdef FROM pg_indexes i
WHERE i.schemaname = current_schema() AND i.tablename = %s
  AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = i.indexname)
"""
_VERSIONS = """
INSERT INTO approvals_proposalversion (approval_id, version, reason, canonical, digest, summary, detail, at)
SELECT id, 1, 'proposed', canonical, digest, summary, '', opened_at FROM approvals_approval a
WHERE NOT EXISTS (SELECT 1 FROM approvals_proposalversion v WHERE v.approval_id = a.id)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    count = parser.parse_args().count
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    django.setup()
    from console.app_role import as_owner

    began = time.monotonic()
    with as_owner():
        seed(count)
    sys.stdout.write(f"{count:,} pending requests in {time.monotonic() - began:.0f} s\n")


if __name__ == "__main__":
    main()
