"""What models were used, by agent and day, and what that cost."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from console.http import needs
from orchestration import spending

_SPANS = (1, 7, 30)
_DIGITS = 3


@require_safe
@needs("see")
def usage(request: HttpRequest) -> HttpResponse:
    """The last days, in UTC: `?days=7`."""
    wished = request.GET.get("days", "")
    days = int(wished) if wished.isascii() and wished.isdigit() and len(wished) <= _DIGITS else 7
    context = {"used": spending.by_day(days), "days": days, "spans": _SPANS}
    return render(request, "orchestration/usage.html", context)
