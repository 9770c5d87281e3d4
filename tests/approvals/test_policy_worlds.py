"""Random worlds on real rows, judged by a model that is written another way than the code.

A world: people with one or two accounts and changing roles, delegations, a policy that is changed on the way, one
approval, and votes in random order. After every step the model says what must have happened. `make nightly` tries
2,000 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import transaction
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from approvals import services
from approvals.errors import AlreadyClosed, ApprovalError, InvalidVerdict, MayNotDecide, NotAuthorised, StaleVersion
from approvals.models import AccountPerson, Approval, Delegation, PolicyVersion
from approvals.record import audit
from console.clock import database_now
from tests.approvals.conftest import REFUND, answer

ACCOUNTS = ("ann", "ben", "cyd", "dan", "eli", "fay")
AMOUNTS = ("5.00", "99.99", "100.00", "100.01", "2000.00")
GROUPS = ("reviewer", "admin")

Opener = Callable[..., Approval]


@dataclass
class Account:
    """One account. Accounts with the same `person` belong to one human being."""

    person: int
    link: str  # by what the console knows the person: mail or record
    roles: set[str]
    is_active: bool = True


@dataclass(frozen=True)
class RuleSpec:
    """A rule as the model reads it."""

    above: str | None  # the amount's lower bound, exclusive
    outcome: str
    groups: tuple[str, ...]
    people: tuple[str, ...]
    needed: int
    four_eyes: frozenset[str]
    verdicts: frozenset[str]
    escalate_to: tuple[str, ...]

    def as_json(self, number: int) -> dict[str, Any]:
        return {
            "name": f"rule {number}",
            "condition": f'above(args.amount, "{self.above}")' if self.above else "",
            "outcome": self.outcome,
            "groups": list(self.groups),
            "people": list(self.people),
            "needed": self.needed,
            "four_eyes": sorted(self.four_eyes),
            "verdicts": sorted(self.verdicts),
            "escalate_to": list(self.escalate_to),
        }


#: what the model expects where no rule matches
LAST_RESORT = RuleSpec(
    None,
    "ask",
    ("admin",),
    (),
    1,
    frozenset({"requester", "editor", "owner"}),
    frozenset({"approve", "reject"}),
    ("admin",),
)

people_of = st.lists(st.sampled_from(ACCOUNTS), max_size=3, unique=True)


@st.composite
def rule_specs(draw: st.DrawFn) -> RuleSpec:
    groups, people = set(draw(st.sampled_from([["reviewer"], ["admin", "reviewer"], ["admin"], []]))), draw(people_of)
    most = 3 if groups else len(people)
    if most == 0:
        groups, most = {"reviewer"}, 3
    return RuleSpec(
        above=draw(st.sampled_from([None, None, None, "50", "100.00", "1000"])),
        outcome=draw(st.sampled_from(["ask"] * 6 + ["allow", "deny"])),
        groups=tuple(sorted(groups)),
        people=tuple(people),
        needed=min(most, draw(st.sampled_from([1, 1, 2, 2, 3]))),
        four_eyes=frozenset({"requester"} | draw(st.sets(st.sampled_from(["editor", "owner"])))),
        verdicts=frozenset(["approve", "reject", *draw(st.sampled_from([["edit"], ["edit", "respond"], []]))]),
        escalate_to=tuple(sorted(draw(st.sets(st.sampled_from(GROUPS), max_size=2)))),
    )


@dataclass(frozen=True)
class Plan:
    """Everything drawn before the world begins."""

    accounts: dict[str, Account]
    policies: list[list[RuleSpec]]
    delegations: list[tuple[str, str]]  # principal, delegate
    requester: str | None
    owners: list[str]
    amount: str
    steps: list[tuple[Any, ...]]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    names = st.sampled_from(ACCOUNTS)
    accounts = {
        name: Account(
            person=draw(st.integers(0, 4)),
            link=draw(st.sampled_from(["mail", "record"])),
            roles=set(draw(st.sampled_from([["reviewer"], ["reviewer"], ["admin", "reviewer"], ["admin"], []]))),
        )
        for name in ACCOUNTS
    }
    vote = st.tuples(st.just("vote"), names, st.sampled_from(["approve"] * 5 + ["edit"] * 4 + ["reject", "respond"]))
    changes = st.one_of(
        st.tuples(st.just("policy"), st.integers(0, 1)),
        st.tuples(st.just("role"), names, st.sampled_from(GROUPS)),
        st.tuples(st.just("disable"), names),
    )
    votes = vote.flatmap(lambda v: st.tuples(*map(st.just, v), st.sampled_from(AMOUNTS)))
    steps = st.one_of(
        *[votes] * 8, *[changes] * 2, st.just(("escalate",)), st.just(("escalate early",)), st.just(("stale",))
    )
    pairs = st.tuples(names, names).filter(lambda pair: pair[0] != pair[1])
    return Plan(
        accounts,
        draw(
            st.lists(
                st.lists(rule_specs(), min_size=draw(st.sampled_from([1, 1, 0])), max_size=3), min_size=2, max_size=2
            )
        ),
        draw(st.lists(pairs, max_size=4, unique=True)),
        draw(st.none() | names),
        draw(st.lists(names, max_size=1)),
        draw(st.sampled_from(AMOUNTS)),
        draw(st.lists(steps, min_size=5, max_size=12)) + draw(st.lists(changes, min_size=1, max_size=3)),
    )


@dataclass
class Vote:
    """An agreement as the model keeps it."""

    by: str
    right_of: str
    verdict: str


@dataclass
class Model:
    """What must be, said with sets of people and nothing of the code's."""

    plan: Plan
    policy: int = 0
    version: int = 1
    state: str = "pending"
    closed_by: str = ""  # a verdict, or "policy"
    escalated: bool = False
    votes: list[Vote] = field(default_factory=list)  # for the current version
    editors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.amount = self.plan.amount
        self.accounts = deepcopy(self.plan.accounts)
        self.terms = self.rule_for(self.amount)
        self.audience = set(self.terms.groups)
        self._perhaps_close_by_policy()

    def person(self, name: str) -> int:
        return self.accounts[name].person

    def rule_for(self, amount: str) -> RuleSpec:
        for rule in self.plan.policies[self.policy]:
            if rule.above is None or Decimal(amount) > Decimal(rule.above):
                return rule
        return LAST_RESORT

    def barred(self, terms: RuleSpec) -> set[int]:
        """Return the people whom four eyes keep out."""
        out = {self.person(self.plan.requester)} if self.plan.requester else set()
        if "owner" in terms.four_eyes:
            out |= {self.person(owner) for owner in self.plan.owners}
        if "editor" in terms.four_eyes:
            out |= {self.person(editor) for editor in self.editors}
        return out

    def is_meant(self, name: str, terms: RuleSpec) -> bool:
        groups = set(terms.groups) | (set(terms.escalate_to) if self.escalated else set())
        return name in terms.people or bool(self.accounts[name].roles & groups)

    def decides(self, name: str) -> bool:
        return bool(self.accounts[name].roles)  # both roles may

    def right_for(self, name: str) -> str | None:
        """Return whose right the account could use now, None when it may not decide."""
        if not self.accounts[name].is_active:
            return None
        own = [name] if self.is_meant(name, self.terms) else []
        lent = [p for p, d in self.plan.delegations if d == name and self.accounts[p].is_active and self.decides(d)]
        spent = {self.person(who) for vote in self.votes for who in (vote.by, vote.right_of)}
        for holder in own or [p for p in lent if self.is_meant(p, self.terms)]:
            hands = {self.person(name), self.person(holder)}
            if not hands & (self.barred(self.terms) | spent):
                return holder
        return None

    def agreeing(self, terms: RuleSpec, *, on_an_answer: bool = False) -> set[int]:
        """Return the people whose agreement counts now: on the proposal, or on the one answer in the tool's place."""
        return {
            self.person(vote.right_of)
            for vote in self.votes
            if (vote.verdict == "respond") == on_an_answer
            and self.accounts[vote.by].is_active
            and (vote.by == vote.right_of or self.decides(vote.by))
            and self.accounts[vote.right_of].is_active
            and self.is_meant(vote.right_of, terms)
            and not {self.person(vote.by), self.person(vote.right_of)} & self.barred(terms)
        }

    def expect(self, name: str, verdict: str, amount: str) -> tuple[str, str]:
        """Say what must come of a vote: ("closed" | "stale" | "invalid" | "refused" | "taken", whose right)."""
        if self.state != "pending":
            return "closed", ""
        now = self.rule_for(self.amount)
        if _substance(now, self.escalated) != _substance(self.terms, self.escalated):
            self.terms, self.votes, self.version = now, [], self.version + 1
            self._perhaps_close_by_policy()
            return "stale", ""
        if verdict not in self.terms.verdicts:
            return "invalid", ""
        holder = self.right_for(name)
        if holder is None:
            return "refused", ""
        if verdict == "edit":
            edited = self.rule_for(amount)
            takes_it = edited.outcome == "allow" or (edited.outcome == "ask" and "edit" in edited.verdicts)
            if amount == self.amount or not takes_it:
                return "invalid", ""
            self.amount, self.terms, self.votes, self.version = amount, edited, [], self.version + 1
            self.editors += [name, holder]  # whose right was used has changed it too
        if verdict == "reject":
            self.state, self.closed_by = "decided", verdict
            return "taken", holder
        self.votes.append(Vote(name, holder, verdict))
        needs_nobody = verdict == "edit" and self.terms.outcome == "allow"
        if needs_nobody or len(self.agreeing(self.terms, on_an_answer=verdict == "respond")) >= self.terms.needed:
            self.state, self.closed_by = "decided", verdict
        return "taken", holder

    def _perhaps_close_by_policy(self) -> None:
        if self.terms.outcome != "ask":
            self.state, self.closed_by = "decided", "policy"

    def may_run(self) -> bool:
        """Return whether an effect would have been agreed to, under the policy and the people of this moment."""
        now = self.rule_for(self.amount)
        if self.state != "decided" or self.closed_by in ("reject", "respond") or now.outcome == "deny":
            return False
        if self.closed_by == "policy":
            return self.terms.outcome == "allow" and now.outcome == "allow"
        return now.outcome == "allow" or len(self.agreeing(now)) >= now.needed


def _substance(rule: RuleSpec, escalated: bool) -> tuple[Any, ...]:
    said = (rule.outcome, rule.groups, rule.people, rule.needed, rule.four_eyes, rule.verdicts, rule is LAST_RESORT)
    return (*said, rule.escalate_to) if escalated else said


class World:
    """The same plan on real rows."""

    def __init__(self, plan: Plan, open_one: Opener) -> None:
        self.plan = plan
        groups = {name: Group.objects.get_or_create(name=name)[0] for name in GROUPS}
        for number, (name, account) in enumerate(plan.accounts.items()):
            mail = f"Person{account.person}@Example.org" if account.link == "mail" else ""
            user = User.objects.create(username=name, email=mail.upper() if number % 2 else mail)
            user.groups.set([groups[role] for role in account.roles])
        for name in plan.accounts:
            # Somebody who has a recorded account has all of them recorded, as `AccountPerson` asks.
            person = plan.accounts[name].person
            if any(one.person == person and one.link == "record" for one in plan.accounts.values()):
                AccountPerson.objects.create(user=self.user(name), person=f"p{person}")
        now = database_now()
        for principal, delegate in plan.delegations:
            Delegation.objects.create(
                principal=self.user(principal),
                delegate=self.user(delegate),
                starts_at=now - timedelta(hours=1),
                ends_at=now + timedelta(hours=1),
                made_by=self.user(principal),
            )
        self.activate(0)
        requester = self.user(plan.requester) if plan.requester else None
        self.approval = open_one(
            arguments=REFUND | {"amount": plan.amount}, requested_by=requester, agent_owners=tuple(plan.owners)
        )

    def user(self, name: str) -> User:
        return User.objects.get(username=name)  # a fresh object: roles are kept on it

    def activate(self, policy: int) -> None:
        PolicyVersion.objects.filter(state="active").update(state="replaced")
        rules = [rule.as_json(number) for number, rule in enumerate(self.plan.policies[policy])]
        version = PolicyVersion.objects.count() + 1
        PolicyVersion.objects.create(version=version, rules=rules, state="active", made_by=self.user("ann"))

    def vote(self, name: str, verdict: str, amount: str) -> tuple[str, str]:
        self.approval.refresh_from_db()
        changes: dict[str, Any] = {"note": "because"}
        if verdict == "edit":
            changes["edited_arguments"] = REFUND | {"amount": amount}
        if verdict == "respond":
            changes["answer"] = "wait"
        given = answer(self.approval, verdict, **changes)
        try:
            decision = services.decide(approval_id=self.approval.pk, reviewer=self.user(name), given=given)
        except AlreadyClosed:
            return "closed", ""
        except StaleVersion:
            return "stale", ""
        except InvalidVerdict:
            return "invalid", ""
        except MayNotDecide:
            return "refused", ""
        finally:
            self.approval.refresh_from_db()
        return "taken", decision.on_behalf_of.username if decision.on_behalf_of else decision.by_name

    def may_run(self) -> bool:
        self.approval.refresh_from_db()
        try:
            services.authorise(approval_id=self.approval.pk, digest=self.approval.digest)
        except NotAuthorised:
            return False
        return True


def live(plan: Plan, open_one: Opener) -> None:
    world, model = World(plan, open_one), Model(plan)
    changed_since = False  # the policy or the people, after the approval was closed
    for step in plan.steps:
        match step:
            case ["vote", name, verdict, amount]:
                assert world.vote(name, verdict, amount) == model.expect(name, verdict, amount), step
            case ["policy", policy]:
                world.activate(policy)
                model.policy = policy
                changed_since = True
            case ["role", name, role]:
                world.user(name).groups.remove(Group.objects.get(name=role))
                model.accounts[name].roles.discard(role)
                changed_since = True
            case ["disable", name]:
                User.objects.filter(username=name).update(is_active=False)
                model.accounts[name].is_active = False
                changed_since = True
            case ["escalate"]:
                _escalate(world, model)
            case ["escalate early"]:
                asked = services.escalate_now(approval_id=world.approval.pk, actor="olga")
                world.approval.refresh_from_db()
                model.escalated = model.escalated or asked
            case ["stale"]:
                _click_on_what_is_not_shown(world)
        assert (world.approval.status, world.approval.version) == (model.state, model.version), step
        runs = world.may_run()
        assert not runs or model.may_run(), "an effect that nobody agreed to would run"
        if not changed_since and model.state == "decided":
            assert runs == model.may_run(), "what was agreed to would not run"
    event(f"{model.state} by {model.closed_by or 'nobody'}")
    assert audit.verify().ok


def _escalate(world: World, model: Model) -> None:
    now = database_now().isoformat()
    later = (database_now() + timedelta(days=1)).isoformat()
    ladder = [{"step": "escalate", "at": now}, {"step": "expire", "at": later}]
    Approval.objects.filter(pk=world.approval.pk, status="pending", steps_climbed=0).update(ladder=ladder)
    services.climb([world.approval.pk])
    world.approval.refresh_from_db()
    model.escalated = model.escalated or model.state == "pending"


def _click_on_what_is_not_shown(world: World) -> None:
    given = answer(world.approval, digest="0" * 64)
    with pytest.raises(ApprovalError):
        services.decide(approval_id=world.approval.pk, reviewer=world.user("ann"), given=given)


class Undo(Exception):
    """Take a world's rows back."""


@pytest.mark.django_db
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(plan=plans())
def test_in_every_world_enough_different_people_agreed(plan: Plan, open_one: Opener) -> None:
    with pytest.raises(Undo), transaction.atomic():
        live(plan, open_one)
        raise Undo
