"""Approvals asked for by programs: what `POST approvals` takes, and how a program takes its request back.

A program's request has no run. A small workflow, its watch, takes the run's place: it climbs the ladder, and sends the
answer to where the program wants it. The approval's `run_id` is the watch's workflow id. Title, words and arguments
are the program's and untrusted.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from approvals.errors import AlreadyClosed, ExternalIdReused, InvalidRequest, NoSuchApproval
from approvals.models import Approval, ReceiptStep, new_approval_id
from approvals.people.programs import stored_external_id
from approvals.policies import asking
from approvals.proposal import fixed
from approvals.proposal.canonical import NotCanonical, canonicalise, digest_of, read_canonical
from approvals.proposal.terms import Facts, Terms
from approvals.record import audit
from approvals.record.closings import closing_of
from approvals.services.opening import Proposal, open_approval
from console import outbox, ports
from console.clock import DatabaseNow, database_now
from console.forms import schema_check
from console.in_flight import TooManyInFlight, is_full
from console.live.announce import announce
from console.outbox import Kind
from console.text.json_text import size_fault
from console.text.stored import UNKEPT, all_can_be_kept, can_be_kept, holds_half

SCHEMA_LIMIT_BYTES = 64 * 1024
URL_LIMIT = 2000  # characters
AGENT_LIMIT = 100  # characters of the name of who asks
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")
_URL = re.compile(r"[\x21-\x7e]+")

Errors = list[dict[str, str]]


@dataclass(frozen=True)
class ProgramRequest:
    """One request as a program sent it, its shape checked by the API."""

    title: str
    tool: str
    arguments: dict[str, Any]
    external_id: str  # the program's own
    deliver_to: dict[str, Any] | None  # {"temporal": {...}} or {"webhook": {"url"}}; `None`: it is fetched
    arguments_schema: dict[str, Any]
    verdicts: tuple[str, ...]
    risk: str
    agent_words: str
    audience: tuple[str, ...]
    due_at: datetime | None
    reports_outcome: bool | None = None  # it will say what came of it; `None`: it does where it fetches its answer

    @property
    def will_report(self) -> bool:
        return self.deliver_to is None if self.reports_outcome is None else self.reports_outcome

    def body_digest(self) -> str:
        """Return the digest of what was asked, to tell a repetition from another request under the same id."""
        told = asdict(self)
        if self.reports_outcome is None:  # digests are kept: those from before it could be said stay the same
            del told["reports_outcome"]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def request_approval(*, asked: ProgramRequest, requested_by: User) -> tuple[Approval, bool]:
    """Open an approval for a program and have its watch started; return it and whether it is new.

    The same external id of the same account with the same body returns the same approval, however often, from however
    many clients at once, and also where it could not be asked any more. Raises InvalidRequest with a path for each
    fault, ExternalIdReused, TooManyInFlight.
    """
    external_id, body_digest = stored_external_id(requested_by, asked.external_id), asked.body_digest()
    earlier = Approval.objects.filter(external_id=external_id).first() if _is_name(asked.external_id) else None
    if earlier is None:
        canonical = _checked(asked, requested_by)
        proposal = _proposal(asked, canonical, requested_by, external_id, body_digest)
        with transaction.atomic():
            _check_room(requested_by, external_id)
            earlier = open_approval(proposal)
            if earlier.pk == proposal.approval_id:
                if asked.deliver_to and "temporal" in asked.deliver_to:
                    temporal = asked.deliver_to["temporal"]
                    ports.agent_plane().note_first_use(requested_by.username, temporal, earlier.pk)
                start_watch(earlier)
                return earlier, True
    if earlier.asked.get("body_digest") != body_digest:
        raise ExternalIdReused(ExternalIdReused.__doc__)
    return earlier, False


def _check_room(requested_by: User, external_id: str) -> None:
    """Refuse one more than an account may have; what was asked before, by now perhaps, is not one more."""
    mine = Approval.objects.filter(
        source=Approval.Source.PROGRAM, requested_by=requested_by, status=Approval.Status.PENDING
    )
    if is_full(requested_by, mine) and not Approval.objects.filter(external_id=external_id).exists():
        advice = "Wait until some are decided, or take back what is no longer needed, and send this again."
        raise TooManyInFlight(requested_by, "requests that are not decided", advice)


def start_watch(approval: Approval, *, again: bool = False) -> None:
    """Have the relay start the approval's watch. `again`: in place of one that may still run."""
    payload = {"approval_id": approval.pk, "workflow_id": approval.run_id, "again": again}
    outbox.enqueue(kind=Kind.START_WATCH, subject=approval.run_id, payload=payload)


def take_back(*, approval_id: str, by: User, reason: str) -> Approval:
    """Withdraw a request that its own program no longer needs; a repetition changes nothing.

    Raises NoSuchApproval, also for what somebody else has asked for, and AlreadyClosed when it was decided or expired.
    """
    with transaction.atomic():
        mine = Approval.objects.filter(source=Approval.Source.PROGRAM, requested_by=by, pk=approval_id)
        approval = mine.select_for_update(no_key=True).first()
        if approval is None:
            raise NoSuchApproval
        if approval.status == Approval.Status.WITHDRAWN:
            return approval
        if not approval.is_open:
            raise AlreadyClosed(closing_of(approval))
        mine.update(status=Approval.Status.WITHDRAWN, closed_at=DatabaseNow(), claimed_by=None, claimed_at=None)
        wake = {"run_id": approval.run_id, "approval_id": approval.pk, "decision_id": f"{approval.pk}:withdrawn"}
        outbox.enqueue(kind=Kind.DECIDED, subject=approval.run_id, payload=wake)
        announce("inbox", f"approval:{approval.pk}", f"run:{approval.run_id}")
        audit.record(actor=by.username, kind="approval.withdrawn", subject=approval.pk, body={"reason": reason[:500]})
    approval.refresh_from_db()
    return approval


def note_undelivered(approval_id: str, *, at_once: bool = False) -> None:
    """Let an answer that its program has not taken stand in the lane, also when nobody decided.

    What was set aside stays so. `at_once`: also where it is not late yet, for it is known that it waits.
    """
    with transaction.atomic(savepoint=False):
        open_ones = Approval.objects.filter(pk=approval_id, took_effect_at=None)
        open_ones = open_ones.exclude(receipt__step=ReceiptStep.Step.SET_ASIDE)
        if not at_once:
            open_ones = open_ones.filter(expected_by=None)
        open_ones.update(expected_by=DatabaseNow())
        announce("inbox", f"approval:{approval_id}")


def _proposal(
    asked: ProgramRequest, canonical: bytes, requested_by: User, external_id: str, body_digest: str
) -> Proposal:
    facts = Facts(
        source=Approval.Source.PROGRAM,
        agent=requested_by.username,
        tool=asked.tool,
        kind=Approval.Kind.ACTION,
        risk=asked.risk,
        arguments=read_canonical(canonical)[1],  # as the policy is asked when it opens
    )
    _check_against_policy(asked, asking.terms_for(facts))
    approval_id = new_approval_id()
    return Proposal(
        external_id=external_id,
        kind=facts.kind,
        canonical=canonical,
        digest=digest_of(canonical),
        summary=asked.title,
        agent_words=asked.agent_words,
        arguments_schema=asked.arguments_schema,
        risk=facts.risk,
        agent=facts.agent,
        run_id=f"watch-{approval_id}",
        interrupt_id="",
        checkpoint_id="",
        requested_by_id=requested_by.pk,
        source=facts.source,
        verdicts=asked.verdicts,
        deliver_to=asked.deliver_to,
        approval_id=approval_id,
        audience=asked.audience,
        due_at=asked.due_at,
        body_digest=body_digest,
        reports_outcome=asked.will_report,
    )


def _checked(asked: ProgramRequest, requested_by: User) -> bytes:
    """Return the canonical bytes, after everything was checked that does not depend on the policy."""
    errors = _account_faults(requested_by) + _text_faults(asked) + _destination_faults(asked.deliver_to, requested_by)
    try:
        canonical = canonicalise(asked.tool, asked.arguments)
    except NotCanonical as exc:
        path = ".".join(map(str, ("arguments", *exc.path)))
        raise InvalidRequest([*errors, {"path": path, "message": str(exc)}]) from exc
    if fault := size_fault(asked.arguments):
        errors.append({"path": "arguments", "message": fault})
    else:
        errors += _schema_faults(asked)
    if errors:
        raise InvalidRequest(errors)
    return canonical


def _account_faults(requested_by: User) -> Errors:
    """The account's name stands for the agent, in rules too: cut, it might be another's."""
    if len(requested_by.username) <= AGENT_LIMIT:
        return []
    message = f"The account that asks has a name of more than {AGENT_LIMIT} characters: use one with a shorter name."
    return [{"path": "", "message": message}]


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and not holds_half(text)


def _text_faults(asked: ProgramRequest) -> Errors:
    errors = []
    for path in ("title", "agent_words"):
        text = getattr(asked, path)
        if not can_be_kept(text):
            errors.append({"path": path, "message": UNKEPT})
    for path in ("tool", "external_id"):
        if not _is_name(getattr(asked, path)):
            errors.append({"path": path, "message": "A name holds no control character and no half of a character."})
    if not asked.title.strip():
        errors.append({"path": "title", "message": "Say in one sentence what shall be done."})
    return errors


def _schema_faults(asked: ProgramRequest) -> Errors:
    """Check the schema itself, then the arguments against it."""
    if not asked.arguments_schema:
        return []
    if len(json.dumps(asked.arguments_schema)) > SCHEMA_LIMIT_BYTES:
        message = f"A schema takes at most {SCHEMA_LIMIT_BYTES // 1024} KiB."
        return [{"path": "arguments_schema", "message": message}]
    if not all_can_be_kept(asked.arguments_schema):
        return [{"path": "arguments_schema", "message": UNKEPT}]
    if fault := size_fault(asked.arguments_schema):
        return [{"path": "arguments_schema", "message": fault}]
    if marks := fixed.faults_of(asked.arguments_schema):
        return [{"path": f"arguments_schema.{path}", "message": message} for path, message in marks]
    try:
        faults = schema_check.check(asked.arguments_schema, asked.arguments)
    except schema_check.BrokenSchema as exc:
        return [{"path": "arguments_schema", "message": str(exc)}]
    return [
        {"path": ".".join(["arguments", *(str(part) for part in fault.path)]), "message": fault.sentence}
        for fault in faults
    ]


def _destination_faults(deliver_to: dict[str, Any] | None, requested_by: User) -> Errors:
    """Check the form of the address; where a webhook's name leads is looked up at each delivery."""
    if deliver_to is None:
        return []
    if "webhook" in deliver_to:
        path, url = "deliver_to.webhook.url", deliver_to["webhook"]["url"]
        if len(url) > URL_LIMIT or not _URL.fullmatch(url):
            message = f"An address takes at most {URL_LIMIT:,} characters, all of them printable ASCII."
            return [{"path": path, "message": message}]
        refusal = ports.agent_plane().webhook_refusal(url)
        return [{"path": path, "message": refusal}] if refusal else []
    errors = [
        {"path": f"deliver_to.temporal.{name}", "message": "A name holds no control character and no half of one."}
        for name, text in deliver_to["temporal"].items()
        if not _is_name(text)
    ]
    if errors:
        return errors
    refused = ports.agent_plane().signal_refusal(requested_by.username, deliver_to["temporal"])
    return [{"path": "deliver_to.temporal", "message": refused}] if refused else []


def _check_against_policy(asked: ProgramRequest, terms: Terms) -> None:
    """Check what was asked for against what the policy gives: it may be less, never more."""
    errors: Errors = []
    if asked.verdicts and not set(asked.verdicts) & set(terms.verdicts):
        allowed = ", ".join(terms.verdicts)
        errors.append({"path": "verdicts", "message": f"The rule “{terms.rule}” allows: {allowed}."})
    errors += _audience_faults(asked, terms)
    if asked.due_at is not None:
        now = database_now()
        latest = asking.ladder_from(terms, now)[-1][1]
        if asked.due_at <= now:
            errors.append({"path": "due_at", "message": "It has passed already. Name a moment in the future."})
        elif asked.due_at > latest:
            message = f"The policy gives until {latest:%Y-%m-%dT%H:%M:%SZ} at most. Name an earlier moment, or none."
            errors.append({"path": "due_at", "message": message})
    if errors:
        raise InvalidRequest(errors)


def _audience_faults(asked: ProgramRequest, terms: Terms) -> Errors:
    if unknown := asking.unknown(asked.audience):
        shown = ", ".join(unknown[:5])
        return [{"path": "audience", "message": f"Neither a role nor an active account: {shown}."}]
    narrowed = asking.narrow(terms, asked.audience)
    if narrowed.is_empty:
        named = ", ".join([*terms.groups, *terms.people])
        return [{"path": "audience", "message": f"The policy lets none of them decide this, only: {named}."}]
    if not narrowed.groups and len(narrowed.people) < terms.needed:
        return [{"path": "audience", "message": f"{terms.needed} people must agree; this names too few who may."}]
    return []
