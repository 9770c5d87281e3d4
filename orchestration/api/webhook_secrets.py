"""What answers to service accounts' webhooks are signed with, in the JSON API: listed, made and retired by an admin."""

from __future__ import annotations

from typing import Annotated, Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from ninja import Header, Router, Schema, Status

from console.api_access import require
from orchestration import webhook_secrets
from orchestration.errors import NoSuchService
from orchestration.models import WebhookSecret

router = Router(tags=["webhook secrets"])


class SecretIn(Schema):
    """Whose secret is to be made."""

    model_config = {"extra": "forbid", "strict": True}

    account: str


@router.get("/webhook-secrets")
def list_secrets(request: HttpRequest) -> dict[str, Any]:
    """List the valid secrets of service accounts that have their own: their last characters, never more."""
    require(request, "webhook_secrets")
    items = [_secret_json(one) for keyring in webhook_secrets.keyrings() for one in keyring.valid]
    return {"items": items, "next": None}


@router.post("/webhook-secrets", response={201: dict[str, Any]})
def make_secret(
    request: HttpRequest,
    body: SecretIn,
    idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=40)] = "",
) -> Status[dict[str, Any]]:
    """Make one more secret of an account and return it, this once. With the same key, for ten minutes, the same one."""
    user = require(request, "webhook_secrets")
    account = User.objects.filter(username=body.account).first()
    if account is None:
        raise NoSuchService(NoSuchService.__doc__)
    account = webhook_secrets.service_of(account.pk)
    made = webhook_secrets.create(account=account, by=user, form_key=idempotency_key)
    return Status(201, {**_secret_json(made.row), "secret": made.secret})


@router.post("/webhook-secrets/{secret_id}/retire")
def retire_secret(request: HttpRequest, secret_id: int) -> dict[str, Any]:
    """Sign with it no more. The same again changes nothing."""
    user = require(request, "webhook_secrets")
    return _secret_json(webhook_secrets.retire(secret_id=secret_id, by=user))


def _secret_json(row: WebhookSecret) -> dict[str, Any]:
    return {
        "id": row.pk,
        "account": row.account.username,
        "ending": row.ending,
        "is_shared": row.is_shared,
        "created_by": row.created_by,
        "created_at": row.created_at,
        "retired_by": row.retired_by or None,
        "retired_at": row.retired_at,
    }
