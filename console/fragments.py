"""Choose between a page and the one fragment of it that changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers

from console.http import is_htmx


def page_or_fragment(
    request: HttpRequest, page: str, fragment: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """Render the fragment for htmx, the page for everybody else, and say that the answer depends on it."""
    response = render(request, fragment if is_htmx(request) else page, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def part_of_page(
    request: HttpRequest, page_address: str, fragment: str, context: Callable[[], dict[str, Any]]
) -> HttpResponse:
    """Render a fragment that has no page of its own; lead everybody but htmx to the page that it is part of.

    `context` is asked only when the fragment is drawn.
    """
    response = render(request, fragment, context()) if is_htmx(request) else redirect(page_address)
    patch_vary_headers(response, ["HX-Request"])
    return response
