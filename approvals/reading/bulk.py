"""Deciding several approvals together: what fits together, what differs inside the group, and one result for each.

Together go pending approvals of the same tool, risk and rule of the policy; never high risk, and only where the rule
allows it. Each item is decided on its own, in its own transaction, with what was shown of it, so a refusal of one is
no refusal of another; and each knows what became of it, also when the connection to the database breaks in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from django.contrib.auth.models import User

from approvals import services
from approvals.errors import (
    AlreadyClosed,
    ApprovalError,
    NoSuchApproval,
    NotKnown,
)
from approvals.models import Approval, Decision, Risk, Verdict
from approvals.people.permissions import may_decide, visible_to
from approvals.reading.arguments import argument_rows_of
from approvals.reading.listing import Filters, approvals_page
from approvals.reading.mine import may_be_decided_by
from approvals.record.closings import closing_of
from approvals.services import Answer, Circumstances
from console.database import AWAY

MOST: Final = 100  # approvals at once
VERDICTS: Final = (Verdict.APPROVE, Verdict.REJECT)  # what can be said of several in the same words


@dataclass(frozen=True)
class ArgumentCell:
    """One argument of one approval; `exact` is its JSON, `None` where the approval has no such argument."""

    path: str
    exact: str | None


@dataclass(frozen=True)
class BulkLine:
    """One approval of a group, with what sets it apart from the others."""

    approval: Approval
    cells: list[ArgumentCell]


@dataclass(frozen=True)
class Group:
    """Approvals that go together. `common`: (path, exact JSON) that all have; `paths`: where they differ."""

    tool: str
    risk: str
    rule: str
    lines: list[BulkLine]
    common: list[tuple[str, str]]
    paths: list[str]
    verdicts: list[str]  # those of VERDICTS that every one of them allows

    @property
    def ids(self) -> list[str]:
        return [line.approval.pk for line in self.lines]

    @property
    def needed(self) -> int:
        """Return how many different people the approvals need, at most."""
        return max(line.approval.needed for line in self.lines)


@dataclass(frozen=True)
class LeftOut:
    """Something that was chosen and cannot be decided together, with the reason."""

    approval_id: str
    approval: Approval | None
    reason: str


@dataclass(frozen=True)
class Review:
    """What was chosen, sorted by what fits together; more than one group has to be split."""

    groups: list[Group]
    left_out: list[LeftOut]


def same_as(user: User, approval_id: str) -> list[str]:
    """Return the ids of the pending approvals that ask exactly the same, at most MOST, the most urgent first."""
    return [row.pk for row in approvals_page(user, Filters(order="risk", same_as=approval_id), limit=MOST).rows]


def review(user: User, approval_ids: Iterable[str]) -> Review:
    """Sort what was chosen, in the order chosen, by what can be decided together.

    Three queries and those for who the user is; some more for each approval that is left out.
    """
    wanted = list(dict.fromkeys(approval_ids))
    rows = visible_to(user).filter(pk__in=wanted[:MOST]).select_related("requested_by")
    found = {row.pk: row for row in rows.defer("search_words", "deciders", "arguments_schema")}
    permitted = visible_to(user).filter(may_be_decided_by(user), pk__in=list(found))
    allowed = set(permitted.values_list("pk", flat=True))
    kinds: dict[tuple[str, str, str], list[Approval]] = {}
    left_out = []
    for place, approval_id in enumerate(wanted):
        approval = found.get(approval_id)
        reason = _why_not(user, approval, approval_id in allowed) if place < MOST else _TOO_MANY
        if reason or approval is None:
            left_out.append(LeftOut(approval_id, approval, reason))
        else:
            kinds.setdefault(kind_of(approval), []).append(approval)
    return Review([_group(kind, approvals) for kind, approvals in kinds.items()], left_out)


_TOO_MANY = f"At most {MOST} go together. Decide these first."


def kind_of(approval: Approval) -> tuple[str, str, str]:
    """Return what must be the same in a group: tool, risk and the policy's rule."""
    return approval.tool, approval.risk, approval.given_terms.rule


def _why_not(user: User, approval: Approval | None, is_allowed: bool) -> str:
    if approval is None:
        return "There is no such request, or you may not see it."
    if not approval.is_open:
        return str(AlreadyClosed(closing_of(approval)))
    if approval.risk == Risk.HIGH:
        return "High risk is decided on its own page, one by one."
    if not may_pick(approval):
        return f"The rule “{approval.given_terms.rule}” wants each decided on its own page."
    return "" if is_allowed else may_decide(user, approval).sentence


def _group(kind: tuple[str, str, str], approvals: Sequence[Approval]) -> Group:
    leaves = [_leaves(approval) for approval in approvals]
    paths = list(dict.fromkeys(path for one in leaves for path in one))
    differing = [path for path in paths if len({one.get(path) for one in leaves}) > 1]
    common = [(path, leaves[0][path]) for path in paths if path not in set(differing)]
    lines = [
        BulkLine(approval, [ArgumentCell(path, one.get(path)) for path in differing])
        for approval, one in zip(approvals, leaves, strict=True)
    ]
    verdicts = [verdict for verdict in VERDICTS if all(verdict in approval.verdicts for approval in approvals)]
    return Group(*kind, lines=lines, common=common, paths=differing, verdicts=[str(verdict) for verdict in verdicts])


def _leaves(approval: Approval) -> dict[str, str]:
    arguments = approval.arguments
    return {row.path: row.exact for row in argument_rows_of(arguments)}


@dataclass(frozen=True)
class Item:
    """One approval of a bulk decision, with the version and digest that were shown."""

    approval_id: str
    verdict: str
    version: int
    digest: str
    note: str = ""


@dataclass(frozen=True)
class Result:
    """What became of one item; `status` as HTTP counts: 200, 403, 404, 409, 422, or 503 without the database."""

    item: Item
    status: int
    words: str
    decision: Decision | None = None
    approval: Approval | None = None  # with its parts loaded, when it was found
    error: ApprovalError | None = field(default=None, compare=False)

    @property
    def may_try_again(self) -> bool:
        """Return whether another look at it and another click may help: it is still open, and theirs to decide."""
        is_open = self.approval is not None and self.approval.is_open
        return self.status in (409, 422) and is_open

    @property
    def is_unknown(self) -> bool:
        """Return whether nobody knows yet if it was recorded; the same sent again counts once, and finds out."""
        return isinstance(self.error, NotKnown)


def decide_each(
    user: User, items: Sequence[Item], *, key: str = "", signed_in_at: datetime | None = None
) -> list[Result]:
    """Decide the items one after the other, in their order; nothing is raised for a refused one.

    `key`: the same key with the same items gets the same results, for each item has a key of its own made from it.
    Once the database is away for one, the others are not tried: each would wait for it again.
    """
    results: list[Result] = []
    for item in items:
        is_away = bool(results) and results[-1].is_unknown
        # An earlier send of the same form may have recorded it, so that it cannot be called not recorded.
        result = _unknown(item, _NOT_TRIED) if is_away else _decide_one(user, item, key, signed_in_at)
        results.append(result)
    return results


_NOT_TRIED: Final = "The database was away, so this one was not tried now. Send it again: it counts once."


def _unknown(item: Item, words: str) -> Result:
    return Result(item, 503, words, error=NotKnown(words))


def _decide_one(user: User, item: Item, key: str, signed_in_at: datetime | None) -> Result:
    given = Answer(item.verdict, item.version, item.digest, item.note, idempotency_key=_key_of(key, item.approval_id))
    try:
        # A text that PostgreSQL cannot take names nothing; it must not end the others' turn.
        if not item.approval_id.isprintable() or not visible_to(user).filter(pk=item.approval_id).exists():
            raise NoSuchApproval
        circumstances = Circumstances("bulk", signed_in_at)
        recorded = services.decide_for_sure(
            approval_id=item.approval_id, reviewer=user, given=given, circumstances=circumstances
        )
    except ApprovalError as exc:
        return Result(item, exc.http_status, exc.sentence, error=exc)
    except AWAY:  # before it was tried
        return _unknown(item, _NOT_TRIED)
    return Result(item, 200, _PAST.get(recorded.decision.verdict, "Decided"), recorded.decision)


_PAST: Final[dict[str, str]] = {Verdict.APPROVE: "Approved", Verdict.REJECT: "Rejected"}


def with_approvals(user: User, results: Sequence[Result]) -> list[Result]:
    """Return the results with their approvals as they now are, in one query; a vote that was not the last says so.

    Raises what Django raises when the database is away: the results are then all that is known.
    """
    rows = visible_to(user).filter(pk__in=[one.item.approval_id for one in results])
    found = {row.pk: row for row in rows.defer("canonical", "search_words", "deciders", "arguments_schema")}
    told = []
    for result in results:
        approval = found.get(result.item.approval_id)
        is_open = approval is not None and approval.is_open
        words = "Your vote is recorded; it needs other people too" if result.status == 200 and is_open else result.words
        told.append(replace(result, approval=approval, words=words))
    return told


def _key_of(key: str, approval_id: str) -> str:
    return "bulk:" + hashlib.sha256(f"{key}\n{approval_id}".encode()).hexdigest() if key else ""


def may_pick(approval: Approval) -> bool:
    """Return whether the request can be decided together with others, as far as it is its own to say.

    What wants a look of some length is looked at alone: among others nobody could say how long it was.
    """
    terms = approval.given_terms
    is_open = approval.is_open and approval.risk != "high"
    return is_open and terms.may_bulk and not terms.dwell_seconds
