"""Several parts of one page in one answer, so that one announcement costs an open page one request.

A page asks for `?<element id>=<address>`, once for each of its parts that may have changed. Each address is answered
by its own view, for who asks, with that view's own permission checks. The browser's side is `static/js/parts.js`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.urls import resolve
from django.utils.cache import patch_vary_headers
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_GET

from console.http import is_htmx, needs
from console.refusals import Refused

View = TypeVar("View", bound=Callable[..., HttpResponse])

PARTS: set[Callable[..., HttpResponse]] = set()
MOST_PARTS = 40  # of one answer; static/js/parts.js asks for more in groups


def is_a_part(view: View) -> View:
    """Let the view be asked for together with other parts of a page. It changes nothing. Stands above all others."""
    PARTS.add(view)
    return view


@require_GET
@needs("see")
def parts(request: HttpRequest) -> HttpResponse:
    """The named parts as they are now. A part that is gone, or not for who asks, is left out: its place stays."""
    response: HttpResponse = redirect("home")
    if is_htmx(request):
        drawn = "".join(_drawn(request))
        response = HttpResponse(drawn) if drawn else HttpResponse(status=204)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _drawn(request: HttpRequest) -> Iterator[SafeString]:
    for element in list(request.GET)[:MOST_PARTS]:
        try:
            found = _answer(request, request.GET.get(element, ""))
        except (Http404, PermissionDenied, Refused, ValueError):  # ValueError: an address that cannot be split
            continue
        if found.status_code == 200:
            fragment = mark_safe(found.content.decode())  # a template of ours has drawn it
            yield format_html('<hx-partial id="{}" hx-swap="outerMorph">{}</hx-partial>', element, fragment)


def _answer(request: HttpRequest, address: str) -> HttpResponse:
    """Return what the view at the address answers to the same person, script and session."""
    url = urlsplit(address)
    match = resolve(url.path)
    if url.netloc or match.func not in PARTS:
        raise Http404
    inner = copy.copy(request)
    inner.path = inner.path_info = url.path
    inner.META = request.META | {"PATH_INFO": url.path, "QUERY_STRING": url.query}
    inner.GET = QueryDict(url.query)
    inner.resolver_match = match
    answer: HttpResponse = match.func(inner, *match.args, **match.kwargs)
    return answer
