"""Which signals are sent for which service account: the list, and an admin's yes or no."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from console.environment import environment
from console.http import needs, person
from orchestration import signal_pairs


@require_safe
@needs("see")
def signals(request: HttpRequest) -> HttpResponse:
    """What programs have named, and what became of it."""
    user = person(request)
    page = signal_pairs.pairs(cursor=request.GET.get("cursor", ""))
    rows = [(pair, signal_pairs.may_settle(user, pair)) for pair in page.items]
    context = {"rows": rows, "next": page.next, "listed": environment().signals}
    return render(request, "orchestration/signals.html", context)


@require_POST
@needs("settle_signal")
def confirm(request: HttpRequest, pair_id: int) -> HttpResponse:
    """Let it be sent, with all answers that wait for it."""
    return _settle(request, pair_id, confirmed=True)


@require_POST
@needs("settle_signal")
def refuse(request: HttpRequest, pair_id: int) -> HttpResponse:
    """Have it not sent, or not any more."""
    return _settle(request, pair_id, confirmed=False)


def _settle(request: HttpRequest, pair_id: int, *, confirmed: bool) -> HttpResponse:
    signal_pairs.settle(pair_id=pair_id, by=person(request), confirmed=confirmed)
    words = "Confirmed: answers that waited for it are being sent." if confirmed else "Refused: no answer is sent so."
    messages.success(request, words)
    return redirect("orchestration:signals")
