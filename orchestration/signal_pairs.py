"""What no list in the settings answers: an admin confirms once which signal an account may have sent in a namespace.

The pair is made by the first request that names it. That request opens and people decide it as always; its answer is
held until the pair is confirmed, then sent at once. Who waits for what, so that nobody waits in a circle: the audit
chain before a pair is made; an approval, then its pair, then its delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, IntegerField, When

from approvals.models import Approval
from approvals.people.persons import persons_of
from approvals.record import audit
from approvals.services.requesting import start_watch
from console import roles
from console.clock import DatabaseNow
from console.lists.keyset import Order, page_after
from console.live.announce import announce
from orchestration import signal_rules
from orchestration.errors import PairRefused
from orchestration.models import AnswerDelivery, SignalPair

State = SignalPair.State
MOST_SHOWN: Final = 200
_KINDS: Final = {State.CONFIRMED: "signal.confirmed", State.REFUSED: "signal.refused"}


def note_first_use(account: str, temporal: Mapping[str, str], approval_id: str) -> None:
    """Keep the pair that the request names, waiting for an admin, unless it is kept or the settings answer for it."""
    if not signal_rules.needs_confirmation(account):
        return
    known = {"account": account, "namespace": signal_rules.namespace_of(temporal), "signal": temporal["signal"]}
    if SignalPair.objects.filter(**known).exists():
        return
    with transaction.atomic():
        audit.hold_chain()
        pair, is_new = SignalPair.objects.get_or_create(**known, defaults={"asked_by": approval_id})
        if is_new:
            announce("health", "inbox")
            body = known | {"asked_by": approval_id}
            audit.record(actor=account, kind="signal.asked", subject=f"signal:{pair.pk}", body=body)


def locked(account: str, temporal: Mapping[str, str]) -> SignalPair:
    """Return the pair, held until the transaction ends."""
    return SignalPair.objects.select_for_update(no_key=True).get(
        account=account, namespace=signal_rules.namespace_of(temporal), signal=temporal["signal"]
    )


def settle(*, pair_id: int, by: User, confirmed: bool) -> SignalPair:
    """Confirm a pair and have its answers sent, or refuse it, also after a yes. The same again changes nothing.

    Answers that are on their way when a confirmation is taken back are held from the next attempt on. Raises
    PairRefused for who is no admin, for the person behind the account itself, and for what is not there.
    """
    wanted = State.CONFIRMED if confirmed else State.REFUSED
    with transaction.atomic():
        pair = SignalPair.objects.select_for_update(no_key=True).filter(pk=pair_id).first()
        if pair is None or not may_settle(by, pair):
            raise PairRefused("An admin settles which signals are sent, and never the account that asks for them.")
        if pair.state == wanted:
            return pair
        before = pair.state
        SignalPair.objects.filter(pk=pair.pk).update(state=wanted, settled_by=by, settled_at=DatabaseNow())
        pair.refresh_from_db()
        held = _held_by(pair)
        if confirmed:
            _send(held)
        announce("health", "inbox", *(f"approval:{one.pk}" for one in held))
        body = {"account": pair.account, "namespace": pair.namespace, "signal": pair.signal, "before": str(before)}
        audit.record(actor=by.username, kind=_KINDS[wanted], subject=f"signal:{pair.pk}", body=body)
    return pair


def may_settle(by: User, pair: SignalPair) -> bool:
    """Return whether the person may: an admin, who is not the person behind the account. Two queries at most."""
    account = User.objects.filter(username=pair.account).first()
    if not roles.may(by, "settle_signal") or by.username == pair.account:
        return False
    if account is None:
        return True
    persons = persons_of([by, account])
    return persons[by.pk] != persons[account.pk]


@dataclass(frozen=True)
class SignalPairPage:
    """A part of the pairs, those that wait for an admin first, then the newest."""

    items: list[SignalPair]
    next: str | None  # cursor of the next page


_WAITING_FIRST: Final = Order("signals", ("is_waiting", "asked_at", "id"), (int, datetime, int), is_descending=True)


def pairs(*, limit: int = MOST_SHOWN, cursor: str = "") -> SignalPairPage:
    """Return a page of the pairs: those that wait first, then the newest. One query."""
    is_waiting = Case(When(state=State.WAITING, then=1), default=0, output_field=IntegerField())
    rows = SignalPair.objects.select_related("settled_by").annotate(is_waiting=is_waiting)
    found, following = page_after(rows, _WAITING_FIRST, cursor, limit)
    return SignalPairPage(list(found), following)


def waiting_count() -> int:
    """Return how many pairs wait for an admin."""
    return SignalPair.objects.filter(state=State.WAITING).count()


def pairs_of(approvals: Iterable[Approval]) -> dict[str, SignalPair]:
    """Return the pair that each request to signal names, by the request's id. One query."""
    named = {
        approval.pk: (approval.agent, approval.deliver_to["temporal"])
        for approval in approvals
        if approval.deliver_to and "temporal" in approval.deliver_to
    }
    found = {
        (pair.account, pair.namespace, pair.signal): pair
        for pair in SignalPair.objects.filter(account__in={account for account, _ in named.values()})
    }
    keys = {pk: (account, signal_rules.namespace_of(to), to["signal"]) for pk, (account, to) in named.items()}
    return {pk: found[key] for pk, key in keys.items() if key in found}


def _held_by(pair: SignalPair) -> list[Approval]:
    held = AnswerDelivery.objects.filter(state=AnswerDelivery.State.HELD)
    rows = Approval.objects.filter(pk__in=held.values("pk"), agent=pair.account)
    rows = rows.filter(deliver_to__temporal__signal=pair.signal).only("pk", "run_id", "deliver_to").order_by("pk")
    return [one for one in rows if signal_rules.namespace_of((one.deliver_to or {})["temporal"]) == pair.namespace]


def _send(held: list[Approval]) -> None:
    """Have each answer sent from now on, for as long as is promised: by a watch of its own, for the first has ended."""
    again = {"state": AnswerDelivery.State.TRYING, "began_at": DatabaseNow(), "attempts": 0, "last_error": ""}
    AnswerDelivery.objects.filter(pk__in=[one.pk for one in held]).update(**again)
    for approval in held:
        start_watch(approval, again=True)
