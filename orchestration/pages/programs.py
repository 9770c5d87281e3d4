"""The service accounts, and what answers to their webhooks are signed with: made and retired by an admin."""

from __future__ import annotations

import secrets

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from console.http import needs, person
from console.text.visible import make_visible
from orchestration import webhook_secrets
from orchestration.errors import SecretsAsTheyAre
from orchestration.webhook_secrets import NewSecret


@require_safe
@needs("webhook_secrets")
def programs(request: HttpRequest) -> HttpResponse:
    """Which accounts there are, and how many secrets each has."""
    return _page(request)


@require_POST
@needs("webhook_secrets")
def make_secret(request: HttpRequest, account_id: int) -> HttpResponse:
    """Make a secret and show it, this once; the same click again shows the same one for a while."""
    account = webhook_secrets.service_of(account_id)
    key = request.POST.get("form_key", "")[:40]
    try:
        made = webhook_secrets.create(account=account, by=person(request), form_key=key)
    except SecretsAsTheyAre as exc:
        return _page(request, refusal=exc.sentence)
    return _page(request, made=made)


@require_POST
@needs("webhook_secrets")
def retire_secret(request: HttpRequest, secret_id: int) -> HttpResponse:
    """Sign with it no more."""
    try:
        row = webhook_secrets.retire(secret_id=secret_id, by=person(request))
    except SecretsAsTheyAre as exc:
        return _page(request, refusal=exc.sentence)
    told = f"Answers to {make_visible(row.account.username)} are not signed with …{row.ending} any more."
    messages.success(request, told)
    return redirect("orchestration:programs")


def _page(request: HttpRequest, *, made: NewSecret | None = None, refusal: str = "") -> HttpResponse:
    rows = [(keyring, secrets.token_hex(16)) for keyring in webhook_secrets.keyrings()]
    context = {"rows": rows, "made": made, "refusal": refusal}
    response = render(request, "orchestration/programs.html", context, status=409 if refusal else 200)
    response["Cache-Control"] = "no-store"
    return response
