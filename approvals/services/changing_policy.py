"""Change the policy: one admin proposes a whole list of rules, another one confirms or refuses it.

Every function is one transaction under one lock, so that of two changes at once one is first and the other is told.
"""

from __future__ import annotations

from typing import Any

import rfc8785
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Max, Q
from pydantic import ValidationError

from approvals.models import PolicyVersion
from approvals.people.persons import person_of, persons_of
from approvals.policies import shipped
from approvals.policies.calendars import Calendar
from approvals.policies.errors import (
    AlreadySettled,
    AnotherIsProposed,
    InvalidPolicy,
    NoSuchVersion,
    NotYours,
    StalePolicy,
)
from approvals.policies.rules import RULES_LIMIT, Rule, faults_of, words_of
from approvals.record import audit
from console import roles
from console.clock import DatabaseNow
from console.live.announce import announce
from console.locks import AdvisoryLock
from console.text.digests import digest_of_json
from console.text.stored import text_fault

NOTE_LIMIT = 500
SIZE_LIMIT = 256 * 1024  # bytes of rules and calendars together


def propose(*, rules: Any, calendars: Any, note: str, by: User, based_on: int) -> PolicyVersion:
    """Propose a policy, made from the active version `based_on` (0: the shipped rules).

    Where a second active admin exists it waits for one; else it is active at once, and the record says that only
    one admin exists. Raises InvalidPolicy, StalePolicy, AnotherIsProposed, NotYours.
    """
    _check_admin(by)
    note = _checked_note(note, "Say in a sentence what this changes and why.")
    ready_rules, ready_calendars = checked(rules, calendars)
    with transaction.atomic():
        _lock()
        active = active_version()
        waiting = PolicyVersion.objects.filter(state=PolicyVersion.State.PROPOSED).select_related("made_by").first()
        for one in (waiting, active):
            if one and one.made_by_id == by.pk and _says(one, ready_rules, ready_calendars, note, based_on):
                return one  # the second click
        if based_on != (active.version if active else 0):
            raise StalePolicy(active.version if active else 0)
        if waiting is not None:
            raise AnotherIsProposed(waiting.version, waiting.made_by.username)
        if (ready_rules, ready_calendars) == _held_by(active):
            raise InvalidPolicy([{"path": "rules", "message": "Nothing was changed."}])
        last = PolicyVersion.objects.aggregate(last=Max("version"))["last"] or 0
        made = PolicyVersion.objects.create(
            version=last + 1, rules=ready_rules, calendars=ready_calendars, note=note, made_by=by
        )
        is_alone = len(admin_persons()) < 2
        announce("inbox")
        _record(made, by, "proposed", {"based_on": based_on})
        if is_alone:
            _activate(made, active, by, {"why": "only one admin exists"})
    made.refresh_from_db()
    return made


def confirm(*, version: int, by: User) -> PolicyVersion:
    """Make a proposed version the active one. Raises NoSuchVersion, AlreadySettled, NotYours, InvalidPolicy."""
    _check_admin(by)
    with transaction.atomic():
        proposed = _locked(version)
        if proposed.state == PolicyVersion.State.ACTIVE and proposed.settled_by_id == by.pk:
            return proposed  # the second click
        _check_waits(proposed)
        if person_of(by) == person_of(proposed.made_by):
            raise NotYours(
                "You proposed this yourself; another admin has to confirm it. You can take it back by refusing it."
            )
        checked(proposed.rules, proposed.calendars)  # somebody it names may have left meanwhile
        announce("inbox")
        _activate(proposed, active_version(), by, {})
    proposed.refresh_from_db()
    return proposed


def refuse(*, version: int, by: User, reason: str) -> PolicyVersion:
    """Refuse a proposed version, or take one's own back. Raises NoSuchVersion, AlreadySettled, NotYours."""
    _check_admin(by)
    reason = _checked_note(reason, "Say why, for whoever proposed it.")
    with transaction.atomic():
        proposed = _locked(version)
        if proposed.state == PolicyVersion.State.REFUSED and proposed.settled_by_id == by.pk:
            return proposed  # the second click
        _check_waits(proposed)
        _settle(proposed, PolicyVersion.State.REFUSED, by)
        announce("inbox")
        _record(proposed, by, "refused", {"reason": reason})
    proposed.refresh_from_db()
    return proposed


def checked(rules: Any, calendars: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return rules and calendars with every field spelt out. Raises InvalidPolicy with a path for each fault."""
    errors: list[dict[str, str]] = []
    read_calendars = _read_calendars(calendars, errors)
    read_rules = _read_rules(rules, read_calendars, errors)
    _check_people(read_rules, errors)
    if errors:
        raise InvalidPolicy(errors)
    ready = [rule.model_dump(mode="json") for rule in read_rules.values()]
    ready_calendars = {name: one.model_dump(mode="json") for name, one in read_calendars.items()}
    if len(rfc8785.dumps({"rules": ready, "calendars": ready_calendars})) > SIZE_LIMIT:
        message = f"Rules and calendars together take at most {SIZE_LIMIT:,} bytes."
        raise InvalidPolicy([{"path": "rules", "message": message}])
    return ready, ready_calendars


def digest_of(version: PolicyVersion) -> str:
    """Return the digest of a version's rules and calendars: hex SHA-256 of their RFC 8785 JSON."""
    return digest_of_json({"rules": version.rules, "calendars": version.calendars})


def active_version() -> PolicyVersion | None:
    """Return the active version, `None` while the shipped rules hold."""
    return PolicyVersion.objects.filter(state=PolicyVersion.State.ACTIVE).first()


def admin_persons() -> set[str]:
    """Return the different people who are active admins."""
    admins = User.objects.filter(Q(groups__name="admin") | Q(is_superuser=True), is_active=True).distinct()
    return set(persons_of(admins).values())


def _held_by(active: PolicyVersion | None) -> tuple[Any, Any]:
    if active is not None:
        return active.rules, active.calendars
    return checked(shipped.RULES, shipped.CALENDARS)


def _check_admin(by: User) -> None:
    if not roles.may(by, "policy"):
        raise NotYours("Only an admin changes the policy.")


def _checked_note(note: str, missing: str) -> str:
    note = note.strip()
    if not note:
        raise InvalidPolicy([{"path": "note", "message": missing}])
    if fault := text_fault(note, NOTE_LIMIT):
        raise InvalidPolicy([{"path": "note", "message": fault}])
    return note


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [AdvisoryLock.POLICY_CHANGE])


def _locked(version: int) -> PolicyVersion:
    _lock()
    policy = PolicyVersion.objects.select_related("made_by", "settled_by").filter(version=version).first()
    if policy is None:
        raise NoSuchVersion(f"There is no version {version} of the policy.")
    return policy


def _check_waits(policy: PolicyVersion) -> None:
    if policy.state != PolicyVersion.State.PROPOSED:
        by = policy.settled_by.username if policy.settled_by else "somebody"
        raise AlreadySettled(policy.version, policy.state, by, policy.settled_at)


def _says(policy: PolicyVersion, rules: Any, calendars: Any, note: str, based_on: int) -> bool:
    held = (policy.rules, policy.calendars, policy.note)
    return held == (rules, calendars, note) and based_on < policy.version


def _activate(made: PolicyVersion, active: PolicyVersion | None, by: User, body: dict[str, Any]) -> None:
    if active is not None:
        PolicyVersion.objects.filter(pk=active.pk).update(state=PolicyVersion.State.REPLACED)
        _record(active, by, "replaced", {"by": made.version})
    _settle(made, PolicyVersion.State.ACTIVE, by)
    _record(made, by, "activated", {"made_by": made.made_by.username} | body)


def _settle(policy: PolicyVersion, state: str, by: User) -> None:
    PolicyVersion.objects.filter(pk=policy.pk).update(state=state, settled_by=by, settled_at=DatabaseNow())


def _record(policy: PolicyVersion, by: User, kind: str, body: dict[str, Any]) -> None:
    body = {"digest": digest_of(policy), "rules": len(policy.rules)} | body
    audit.record(actor=by.username, kind=f"policy.{kind}", subject=f"policy:{policy.version}", body=body)


def _read_calendars(raw: Any, errors: list[dict[str, str]]) -> dict[str, Calendar]:
    if not isinstance(raw, dict):
        errors.append({"path": "calendars", "message": "Calendars are an object: each name with its calendar."})
        return {}
    read = {}
    for name, one in raw.items():
        try:
            read[name] = Calendar.model_validate(one)
        except ValidationError as exc:
            errors += [_under(f"calendars.{name}", error) for error in words_of(exc)]
        if not name.strip() or len(name) > 60 or not name.isprintable():
            errors.append({"path": f"calendars.{name}", "message": "Name a calendar with 1 to 60 plain characters."})
    return read


def _read_rules(raw: Any, calendars: dict[str, Calendar], errors: list[dict[str, str]]) -> dict[int, Rule]:
    if not isinstance(raw, list) or not raw:
        errors.append({"path": "rules", "message": "A policy is a list of at least one rule."})
        return {}
    if len(raw) > RULES_LIMIT:
        errors.append({"path": "rules", "message": f"At most {RULES_LIMIT} rules; this has {len(raw)}."})
        return {}
    rules: dict[int, Rule] = {}
    for place, one in enumerate(raw):
        try:
            rule = Rule.model_validate(one)
        except ValidationError as exc:
            errors += [_under(f"rules.{place}", error) for error in words_of(exc)]
            continue
        if any(rule.name == other.name for other in rules.values()):
            errors.append({"path": f"rules.{place}.name", "message": f"Another rule is named “{rule.name}” already."})
        for fault in faults_of(rule, calendars):
            field, message = fault.split(": ", 1)
            errors.append({"path": f"rules.{place}.{field}", "message": message})
        rules[place] = rule
    return rules


def _check_people(rules: dict[int, Rule], errors: list[dict[str, str]]) -> None:
    """Check that who is named exists and that enough of them are different people. Two queries at most."""
    names = {name for rule in rules.values() for name in rule.people}
    if not names:
        return
    users = {user.username: user for user in User.objects.filter(username__in=names, is_active=True)}
    persons = persons_of(users.values())
    for place, rule in rules.items():
        unknown = [name for name in rule.people if name not in users]
        if unknown:
            message = f"There is no active account {', '.join(unknown)}."
            errors.append({"path": f"rules.{place}.people", "message": message})
            continue
        different = {persons[users[name].pk] for name in rule.people}
        if not rule.groups and rule.how_many > len(different):
            message = f"These are the accounts of {len(different)} people, of whom {rule.how_many} can never agree."
            errors.append({"path": f"rules.{place}.needed", "message": message})


def _under(path: str, error: dict[str, str]) -> dict[str, str]:
    return {"path": ".".join(filter(None, (path, error["path"]))), "message": error["message"]}
