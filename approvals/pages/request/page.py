"""What the page of one request is made of, for every view that answers with that page."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from approvals.models import Approval
from approvals.pages.inbox.asked import read_asked
from approvals.pages.inbox.pane import inbox_for
from approvals.pages.request.card import Card, card_for
from approvals.pages.team.forms import standing_form
from approvals.people.permissions import Permit
from approvals.policies.asking import why_not_on_this_data
from approvals.reading import attention, reach, requests
from approvals.reading.done_before import done_before
from approvals.reading.first_shown import note_shown
from approvals.reading.outlooks import surprise_of
from approvals.reading.team import team_of
from console import ports
from console.clock import database_now
from console.forms.typed import held_for
from console.fragments import page_or_fragment
from console.http import is_htmx, signed_in_at


class DecisionRefusal:
    """Why a decision was not taken, with what was typed; `field` names the input at fault, if one is."""

    def __init__(
        self,
        status: int,
        words: str,
        request: HttpRequest,
        field: str = "",
        *,
        edited: str | None = None,
        unread: str = "",
    ) -> None:
        self.status, self.words, self.field = status, words, field
        self.note = request.POST.get("note", "")
        self.answer = request.POST.get("answer", "")
        self.edited = request.POST.get("edited", "") if edited is None else edited
        self.unread = unread  # typed into the form of a change, and no value

    @property
    def typed(self) -> str:
        """Return all that was typed, to be kept in view when it can no longer be sent."""
        return _together(self.note, self.answer, self.edited, self.unread)

    @property
    def beside_note(self) -> str:
        """Return what was typed and has no box in a bar that takes a comment."""
        return _together(self.answer, self.unread)

    @property
    def beside_answer(self) -> str:
        """Return what was typed and has no box in a bar that takes an answer."""
        return _together(self.note, self.unread)


def _together(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))


@dataclass(frozen=True)
class Looks:
    """What the page draws from a card besides its facts."""

    canonical: str
    next_step: int  # counted from 1: the receipt's first step that lies ahead, 0 when there is none
    is_answering: bool  # the bar takes an answer in place of a verdict
    must_sign_in_again: bool
    has_run: bool  # there is a page of its run to lead to
    thinking: str = ""  # who wants the run to think again on newer data, or what came of it
    stale_words: str = ""  # why this may not be approved on the data that the agent has read; "" where it may
    list_query: str = ""  # of the list beside it, so that the way on keeps its filters


def approval_page(
    request: HttpRequest,
    user: User,
    approval_id: str,
    refusal: DecisionRefusal | None = None,
    *,
    is_answered: bool = False,
) -> HttpResponse:
    """Answer with the page of one request as it now is, or with its fragment; `is_answered`: to a decision.

    Raises NoSuchApproval, also for what this person may not see.
    """
    found = requests.whole_request(user, approval_id)
    context = detail_of(request, user, found) | {"refusal": refusal, "is_chosen": True, "is_answered": is_answered}
    if refusal is None and not is_answered:  # what was held while its sender signed in again
        held = held_for(request, reverse("approvals:decide", args=[found.pk]))
        context["typed"] = {name: held.value(name) for name in ("note", "answer")} if held else {}
    if not is_htmx(request):
        context["inbox"] = inbox_for(user, read_asked(request))
    status = refusal.status if refusal else 200
    return page_or_fragment(request, "approvals/inbox.html", "approvals/_approval.html", context, status=status)


def detail_of(request: HttpRequest, user: User, found: Approval) -> dict[str, Any]:
    """Return what `_approval.html` shows. Data and effects belong to other apps, which are asked."""
    executed = ports.agent_plane().effects_of([found.pk])
    card = card_for(user, found)
    ahead = [number for number, line in enumerate(card.receipt, start=1) if line.at is None]
    may_answer = card.is_open and card.permit.allowed and "respond" in found.verdicts
    sent = request.GET if request.method == "GET" else request.POST
    return team_parts(user, found, card.permit) | {
        "card": card,
        "looks": Looks(
            canonical=bytes(found.canonical).decode(),
            next_step=ahead[0] if ahead else 0,
            is_answering=may_answer
            and (sent.get("answering") == "1" or sent.get("verdict") == "respond" or found.verdicts == ["respond"]),
            must_sign_in_again=_must_sign_in_again(request, card),
            stale_words=why_not_on_this_data(card.terms, found.dataset_versions) if card.is_open else "",
            list_query=read_asked(request).query(),
            thinking=ports.agent_plane().thinking_again(found.run_id),
            has_run=bool(ports.agent_plane().runs_there([found.run_id])),
        ),
        "nobody": reach.stranded([found], with_parts=True).get(found.pk),
        "reads": ports.data_plane().told(found.dataset_versions),
        "surprise": surprise_of(found),
        "before": requests.asked_before(found),
        "done": done_before(found),
        "after": requests.asked_after(found),
        "executed": executed.get(found.pk),
        "key": secrets.token_urlsafe(16),  # a second send of this very form is the same decision
        "shown": note_shown(found, user, sent.get("shown", "")),
    }


def team_parts(user: User, approval: Approval, permit: Permit) -> dict[str, Any]:
    """Return the context of `_team.html`, `_standing_form.html` and `_team_attention.html`.

    `team`, `standing`, `attention` and `haste`; a constant number of queries. `permit`: from `may_decide`.
    """
    return {
        "team": team_of(user, approval, permit),
        "standing": standing_form(user, approval, permit),
        "attention": attention.attention_of(user, approval),
        "haste": attention.haste_of(user),
    }


def _must_sign_in_again(request: HttpRequest, card: Card) -> bool:
    minutes = card.terms.fresh_sign_in_minutes
    if not (minutes and card.is_open and card.permit.allowed):
        return False
    since = signed_in_at(request)
    return since is None or database_now() - since > timedelta(minutes=minutes)
