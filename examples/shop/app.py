"""The example shop: orders and refunds over HTTP, in JSON, on one SQLite file.

It stands in for the real system whose money an agent proposes to move. It is an example:
nobody is authenticated, so it must listen on the loopback address only.

    SHOP_DATABASE=./shop.sqlite3 uvicorn examples.shop.app:app --port 8100

A POST /refunds goes through these steps; the switches (see PUT /switches) act between them:

1. the request is counted as an attempt;
2. `delay_before_seconds` passes, nothing is recorded yet;
3. `fail`: the next n requests end here with 503;
4. the refund is recorded, or the earlier one with the same Idempotency-Key is found;
5. `delay_after_seconds` passes, the refund exists and the caller does not know;
6. `lose_answer`: the next n requests that reached step 4 end with 502 and no body.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.shop import reading
from examples.shop.errors import Refusal
from examples.shop.store import Store

# Replaced in tests, so that a delay can be observed without waiting for it.
sleep = anyio.sleep


def store_of(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def create_order(request: Request) -> JSONResponse:
    order = reading.order(reading.json_object(await request.body()))
    return JSONResponse(await run_in_threadpool(store_of(request).add_order, order), status_code=201)


async def list_orders(request: Request) -> JSONResponse:
    return JSONResponse({"items": await run_in_threadpool(store_of(request).orders)})


async def show_order(request: Request) -> JSONResponse:
    return JSONResponse(await run_in_threadpool(store_of(request).order, request.path_params["order_id"]))


async def create_refund(request: Request) -> Response:
    """Count the request, then refund, disturbed by the switches in the order the module describes."""
    store, body = store_of(request), await request.body()
    key = request.headers.get("Idempotency-Key", "").strip()
    attempt = await run_in_threadpool(store.open_attempt, reading.order_id_if_any(body), key or None)
    try:
        response = await _refund(store, body, key)
    except Refusal as refusal:
        response = JSONResponse({"error": refusal.sentence}, status_code=refusal.status)
    await run_in_threadpool(store.close_attempt, attempt, response.status_code)
    return response


async def _refund(store: Store, body: bytes, key: str) -> Response:
    if not key:
        raise Refusal(400, "The header Idempotency-Key is required, so that a repeated call refunds once.")
    wanted = reading.refund(reading.json_object(body), key)
    switches = await run_in_threadpool(store.switches)
    await sleep(switches["delay_before_seconds"])
    if await run_in_threadpool(store.use_switch, "fail"):
        raise Refusal(503, "The shop was told to fail; nothing was recorded.")
    refund, is_new, answer_is_lost = await run_in_threadpool(store.refund_once, wanted)
    await sleep(switches["delay_after_seconds"])
    if answer_is_lost:
        return Response(status_code=502)
    return JSONResponse(refund, status_code=201 if is_new else 200)


async def list_refunds(request: Request) -> JSONResponse:
    order_id = request.query_params.get("order_id")
    return JSONResponse({"items": await run_in_threadpool(store_of(request).refunds, order_id)})


async def list_attempts(request: Request) -> JSONResponse:
    order_id = request.query_params.get("order_id")
    return JSONResponse({"items": await run_in_threadpool(store_of(request).attempts, order_id)})


async def show_switches(request: Request) -> JSONResponse:
    return JSONResponse(await run_in_threadpool(store_of(request).switches))


async def set_switches(request: Request) -> JSONResponse:
    """Replace all switches; one that is not named goes back to 0."""
    switches = reading.switches(reading.json_object(await request.body()))
    return JSONResponse(await run_in_threadpool(store_of(request).set_switches, switches))


async def say_refusal(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refusal)
    return JSONResponse({"error": exc.sentence}, status_code=exc.status)


async def say_http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"error": f"{exc.detail}."}, status_code=exc.status_code, headers=exc.headers)


def create_app(database: Path) -> Starlette:
    """Build the shop on one SQLite file, which is created at the first request."""
    app = Starlette(
        routes=[
            Route("/health", health),
            Route("/orders", list_orders),
            Route("/orders", create_order, methods=["POST"]),
            Route("/orders/{order_id}", show_order),
            Route("/refunds", list_refunds),
            Route("/refunds", create_refund, methods=["POST"]),
            Route("/attempts", list_attempts),
            Route("/switches", show_switches),
            Route("/switches", set_switches, methods=["PUT"]),
        ],
        exception_handlers={Refusal: say_refusal, HTTPException: say_http_error},
    )
    app.state.store = Store(database)
    return app


app = create_app(Path(os.environ.get("SHOP_DATABASE", "shop.sqlite3")))
