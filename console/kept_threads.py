"""Django's door for HTTP, with threads that are kept and one walk to a thread for a request's middleware and view.

Every middleware and view of ours is synchronous. Django's own door takes a new thread for each request, and walks from
it back to the event loop between the middleware and the view: each walk waits for whatever holds the interpreter. A
thread that is kept keeps Django's objects about the database as well; its connection goes back to the pool as before.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from console.asgi_types import Receive, Scope, Send
from console.utf8 import Utf8Request


class KeptThreads(ASGIHandler):
    """Serves each request on a thread of its own, which serves another one afterwards."""

    request_class = Utf8Request

    def __init__(self) -> None:
        self.idle: list[ThreadPoolExecutor] = []  # threads without a request
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        thread = self.idle.pop() if self.idle else ThreadPoolExecutor(1, thread_name_prefix="request")
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.handle(scope, receive, send)  # type: ignore[arg-type]  # Django's stubs say Mapping
        finally:  # once it has nothing in hand: whoever left early may have left work behind
            thread.submit(self.idle.append, thread)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        found: HttpResponseBase = await sync_to_async(self.get_response, thread_sensitive=True)(request)
        return found
