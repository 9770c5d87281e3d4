"""Which signals are sent for which service account, in the JSON API: the list, and an admin's yes or no."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema

from console.api_access import require
from orchestration import signal_pairs
from orchestration.models import SignalPair

router = Router(tags=["signals"])


class SettleIn(Schema):
    """Whether answers are sent by this signal."""

    model_config = {"extra": "forbid", "strict": True}

    confirmed: bool


@router.get("/signals")
def list_signals(
    request: HttpRequest, limit: Annotated[int, Query(ge=1, le=200)] = 200, cursor: str = ""
) -> dict[str, Any]:
    """List what programs have named: those that wait for an admin first, then the newest."""
    require(request, "see")
    page = signal_pairs.pairs(limit=limit, cursor=cursor)
    return {"items": [_pair_json(pair) for pair in page.items], "next": page.next}


@router.post("/signals/{pair_id}")
def settle_signal(request: HttpRequest, pair_id: int, body: SettleIn) -> dict[str, Any]:
    """Confirm a signal and have the answers sent that wait for it, or refuse it. The same again changes nothing."""
    user = require(request, "settle_signal")
    return _pair_json(signal_pairs.settle(pair_id=pair_id, by=user, confirmed=body.confirmed))


def _pair_json(pair: SignalPair) -> dict[str, Any]:
    return {
        "id": pair.pk,
        "account": pair.account,
        "namespace": pair.namespace,
        "signal": pair.signal,
        "state": pair.state,
        "asked_by": pair.asked_by,
        "asked_at": pair.asked_at,
        "settled_by": pair.settled_by.username if pair.settled_by else None,
        "settled_at": pair.settled_at,
    }
