"""Everything that the page of one request shows, read from the canonical bytes and the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User

from approvals.models import Approval, Decision, ProposalVersion, Verdict
from approvals.people.permissions import AGREEING, Permit, may_decide
from approvals.people.programs import where_to
from approvals.policies.words import people_of, who_decides
from approvals.proposal.canonical import read_canonical, touched
from approvals.proposal.terms import Terms
from approvals.reading.arguments import ArgumentRow, argument_rows_of
from approvals.reading.receipt import ReceiptLine, receipt_of
from approvals.reading.requests import Sibling, agreed_names, denied_names, siblings_of
from approvals.record.closings import closing_of


@dataclass(frozen=True)
class DecisionLine:
    """One decision, and whether it still counts."""

    decision: Decision
    is_current: bool  # it speaks for the version that is shown


@dataclass(frozen=True)
class LadderStep:
    """A step that asks again while the approval waits, in words that fit before its time."""

    words: str  # "Reminded", "Asks the admins too"
    at: datetime


@dataclass(frozen=True)
class Card:
    """Everything that the approval page shows, read from the canonical bytes and the rows."""

    approval: Approval
    terms: Terms
    arguments: dict[str, Any]
    argument_rows: list[ArgumentRow]
    permit: Permit
    is_open: bool
    closing: str  # in words who or what closed it, "" while open
    decisions: list[DecisionLine]
    agreed: list[str]  # names of those who agree to the current version
    versions: list[ProposalVersion]  # oldest first
    receipt: list[ReceiptLine]
    approve_label: str
    reject_label: str
    ladder: list[LadderStep]  # what asks again before the deadline, taken or to come
    deadline_words: str  # what happens at the deadline
    siblings: list[Sibling] = field(default_factory=list)  # the other requests of the same interrupt
    denied: list[str] = field(default_factory=list)  # names of those who say that it did not happen, where it asks that

    @property
    def given(self) -> int:
        """Return how many people agree; of whether something happened, how many say the same at most."""
        return max(len(self.agreed), len(self.denied))

    @property
    def missing(self) -> int:
        """Return how many more people must agree, or say the same."""
        return max(0, self.approval.needed - self.given)

    @property
    def votes_words(self) -> str:
        """Return how far it is on its way to enough people: "1 of 2 agreed"."""
        said = "say the same" if self.approval.kind == Approval.Kind.OUTCOME else "agreed"
        return f"{self.given} of {self.approval.needed} {said}"

    @property
    def missing_words(self) -> str:
        """Return what is needed still, "" once nothing is."""
        if not self.is_open or not self.missing:
            return ""
        more = f"{self.missing} more {'person' if self.missing == 1 else 'people'} must"
        if self.approval.kind != Approval.Kind.OUTCOME:
            return f"{more} agree; one rejection is enough"
        first = "They say different things, so it stays open: " if self.agreed and self.denied else ""
        return f"{first}{more} say the same"

    @property
    def offered_answer(self) -> str:
        """Return the newest answer to the current version while it needs more people, "" when there is none in text."""
        offered = [one.decision for one in self.decisions if one.is_current and one.decision.verdict == Verdict.RESPOND]
        answer = offered[-1].answer if self.is_open and offered else ""
        return answer if isinstance(answer, str) else ""

    @property
    def answer_goes_to(self) -> str:
        """Return in words where a program gets its answer, "" for an agent's request."""
        return where_to(self.approval.deliver_to) if self.approval.source == Approval.Source.PROGRAM else ""

    @property
    def title(self) -> str:
        """Return what the arguments are of."""
        return _TITLES.get(self.approval.kind, "What will be done")

    @property
    def note_hint(self) -> str:
        """Return what a comment is for."""
        if self.approval.kind == Approval.Kind.ACTION:
            return f"the {self.approval.source} reads it; needed to reject"
        return "how do you know?" if self.approval.kind == Approval.Kind.OUTCOME else "kept in the record"

    @property
    def answer_hint(self) -> str:
        """Return what becomes of an answer, and in what form it is written."""
        if self.approval.source == Approval.Source.PROGRAM:
            return "the program gets it instead of a yes"
        if self.approval.kind == Approval.Kind.QUESTION:
            form = (
                "as JSON of the form that is shown above"
                if self.approval.answer_schema
                else "text, or JSON such as true, 12 or an object"
            )
            return f"the agent goes on with it; {form}"
        return "the agent gets it in place of the tool's result; nothing is run"

    @property
    def siblings_words(self) -> str:
        """Return that the agent waits for several decisions, "" where it waits for this one alone."""
        if not self.siblings:
            return ""
        waiting = sum(one.status == Approval.Status.PENDING for one in self.siblings)
        count = len(self.siblings) + 1
        place = f"This is {self.approval.interrupt_place + 1} of {count} that the agent asked at once"
        if not waiting:
            return f"{place}. The others are decided."
        still = "is" if waiting == 1 else "are"
        return f"{place}. It goes on when all are decided; {waiting} of the others {still} still open."

    @property
    def who(self) -> str:
        """Return who decides, as a sentence."""
        return who_decides(self.approval, self.terms)

    @property
    def current(self) -> ProposalVersion | None:
        """Return the current version when it is not the agent's own proposal."""
        return self.versions[-1] if len(self.versions) > 1 else None

    @property
    def changed_identity(self) -> list[str]:
        """Return the names of fixed arguments that a change has touched, which only a rule can have let."""
        names = self.approval.fixed_arguments
        if not names or self.current is None:
            return []
        return touched(names, read_canonical(bytes(self.versions[0].canonical))[1], self.arguments)

    @property
    def word(self) -> str:
        """Return the state to show: a verdict once it was decided, else the status."""
        if self.approval.status != Approval.Status.DECIDED or not self.decisions:
            return self.approval.status
        verdict = self.decisions[-1].decision.verdict
        is_changed = any(version.reason == ProposalVersion.Reason.EDITED for version in self.versions)
        return str(Verdict.EDIT) if verdict in AGREEING and is_changed else verdict


def card_for(user: User, approval: Approval) -> Card:
    """Return what the page shows of an approval from `whole_request`; no further query for its parts."""
    arguments = approval.arguments
    decisions = list(approval.decisions.all())
    is_open = approval.is_open
    last = decisions[-1] if decisions else None
    terms = approval.given_terms
    return Card(
        approval=approval,
        terms=terms,
        arguments=arguments,
        argument_rows=argument_rows_of(arguments),
        permit=may_decide(user, approval),
        is_open=is_open,
        closing="" if is_open else closing_of(approval, decisions).sentence,
        decisions=[DecisionLine(one, one.for_version == approval.version) for one in decisions],
        agreed=agreed_names(approval, decisions),
        denied=denied_names(approval, decisions),
        versions=list(approval.versions.all()),
        receipt=receipt_of(approval, last),
        approve_label=_APPROVE.get(approval.kind, "Approve"),
        reject_label=_REJECT.get(approval.kind, "Reject"),
        ladder=_ladder(approval, terms),
        deadline_words=f"expires without a decision, and the {approval.source} is told so",
        siblings=siblings_of([approval]).get(approval.pk, []),
    )


_APPROVE: dict[str, str] = {Approval.Kind.OUTCOME: "It happened", Approval.Kind.GO_ON: "Let it go on"}
_REJECT: dict[str, str] = {Approval.Kind.OUTCOME: "It did not", Approval.Kind.GO_ON: "Stop it here"}
_TITLES: dict[str, str] = {
    Approval.Kind.OUTCOME: "What was started",
    Approval.Kind.QUESTION: "What the agent asks",
    Approval.Kind.GO_ON: "Where the agent stopped",
}


def _ladder(approval: Approval, terms: Terms) -> list[LadderStep]:
    others = people_of(terms.escalate_to, [])
    steps = []
    for number, rung in enumerate(approval.ladder):
        taken = number < approval.steps_climbed
        at = datetime.fromisoformat(rung["at"])
        if rung["step"] == "remind":
            steps.append(LadderStep("Reminded" if taken else "Reminds", at))
        elif rung["step"] == "escalate" and others:
            steps.append(LadderStep(f"{'Asked' if taken else 'Asks'} {others} too", at))
    return steps
