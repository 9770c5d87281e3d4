"""The record in the JSON API."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import AwareDatetime, BeforeValidator

from approvals.models import AuditEvent
from approvals.reading import record
from approvals.record import audit
from console.api_access import require

router = Router(tags=["record"])


@router.get("/audit")
def list_audit(
    request: HttpRequest,
    actor: str = "",
    subject: str = "",
    since: Annotated[AwareDatetime | None, BeforeValidator(lambda given: given or None)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str = "",
) -> dict[str, Any]:
    """List the entries of the record, newest first; `since` is an instant with its zone."""
    require(request, "audit")
    page = record.entries_page(record.RecordFilters(actor, subject, since), cursor=cursor, limit=limit)
    return {"items": [entry_json(entry) for entry in page.rows], "next": page.next_cursor}


@router.get("/audit/verify")
def verify_audit(request: HttpRequest) -> dict[str, Any]:
    """Walk the chain: does every entry fit, and are the heads kept outside in it?

    Of a long chain, what came after the last check of the whole is walked; `manage.py verify_audit` walks all of it.
    """
    require(request, "audit")
    found = record.check()
    missing = found.missing
    return {
        "ok": found.ok,
        "entries": found.entries,
        "head": found.head,
        "first_bad": found.first_bad,
        "heads_compared": found.heads,
        "missing_head": {"seq": missing.seq, "digest": missing.digest, "at": missing.at} if missing else None,
        "last_whole_check": vars(last) if (last := record.last_check()) else None,
        "sentence": found.sentence,
    }


def entry_json(entry: AuditEvent) -> dict[str, Any]:
    """Return the public shape of one entry: all that its digest is made of, and its number."""
    return {
        "seq": entry.seq,
        "at": audit.moment(entry.at),  # to the microsecond: the digest is made of it
        "actor": entry.actor,
        "kind": entry.kind,
        "subject": entry.subject,
        "body": entry.body,
        "previous": entry.previous,
        "digest": entry.digest,
    }
