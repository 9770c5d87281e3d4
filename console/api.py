"""The root of the JSON API, `/api/v1/`: who is asking, how errors look, and which app answers what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.request import RawPostDataException
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.security import HttpBearer, SessionAuth

from console import health, problems, tokens, tries
from console.callers import address_of
from console.contracts_page import contracts_page
from console.database import NOT_KEPT
from console.probes import within
from console.problems import Problem
from console.refusals import Refused
from console.text.json_text import NotJson, depth_fault, read_exactly
from console.text.stored import UNKEPT, can_be_kept


class TokenAuth(HttpBearer):
    """`Authorization: Bearer <token>`."""

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        owner = tokens.owner_of(token, address_of(request))
        if owner is not None:
            request.user = owner
        elif wait := tries.begin_token(request).wait_seconds:
            raise problems.too_many(f"Too many unknown tokens came from your address. Wait {tries.words(wait)}.", wait)
        return owner


class BrowserAuth(SessionAuth):
    """The browser's session; writes then need the CSRF token."""

    def __call__(self, request: HttpRequest) -> User | None:
        """Ask for the CSRF token only where there is a session to protect: strangers are unknown, not refused."""
        if not isinstance(request.user, User):
            return None
        found: User | None = super().__call__(request)
        return found

    def authenticate(self, request: HttpRequest, key: str | None) -> User | None:
        return request.user if isinstance(request.user, User) and request.user.is_active else None


class ExactJson(Parser):
    """Reads bodies, and refuses what would lose a digit or a key by being read: at every endpoint alike."""

    def parse_body(self, request: HttpRequest) -> Any:
        body = read_exactly(request.body.decode())
        if fault := depth_fault(body):
            raise NotJson(fault)
        return body


api = NinjaAPI(
    title="Signalbox",
    version="1",
    urls_namespace="api",
    auth=[TokenAuth(), BrowserAuth()],
    parser=ExactJson(),
)


@api.get("/health", auth=None)
def get_health(request: HttpRequest) -> JsonResponse:
    """Tell how the parts are; strangers see the status alone. 503 only without Postgres."""
    status, body = health.report()
    known: bool | None = False
    if status == 200:
        known = within(health.WAIT_SECONDS, lambda: _is_known(request), otherwise=None)
    if known is None:  # Postgres stopped answering since it was asked
        status, body = 503, {"status": "degraded"}
    return JsonResponse(body if known else {"status": body["status"]}, status=status)


def _is_known(request: HttpRequest) -> bool | None:
    """Return whether somebody of ours asks, `None` when the database does not say."""
    try:
        return isinstance(request.user, User) or TokenAuth()(request) is not None
    except (OperationalError, InterfaceError):
        return None
    except DatabaseError:  # it takes no writes, and the token's first use is one
        return False
    except Problem:  # too many unknown tokens: a stranger all the same, and strangers are told the status
        return False


@api.get("/contracts")
def get_contracts(request: HttpRequest) -> dict[str, Any]:
    """Return the boundaries, the map of steps to layers, and the failure tests with their last results."""
    return contracts_page()


def _answer(status: int, title: str, detail: str) -> Callable[[HttpRequest, Any], JsonResponse]:
    return lambda request, exc: problems.problem_response(Problem(status, title, detail))


@api.exception_handler(ValidationError)
def _validation(request: HttpRequest, exc: ValidationError) -> JsonResponse:
    errors = [{"path": _path(error["loc"]), "message": error["msg"]} for error in exc.errors]
    return problems.problem_response(problems.invalid(errors))


def _path(loc: tuple[str | int, ...]) -> str:
    """Return the field's name: a body's loc begins with ("body", <parameter>), all others with where it came from."""
    return ".".join(str(part) for part in loc[2 if loc[0] == "body" else 1 :])


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, exc: HttpError) -> JsonResponse:
    """Answer what Ninja itself refuses: a body that is no JSON, and a browser's call without the CSRF token."""
    if exc.status_code == 400:
        message = str(exc.__cause__) if isinstance(exc.__cause__, NotJson) else "cannot be read as JSON"
        return problems.problem_response(problems.invalid([{"path": "", "message": message}]))
    return problems.problem_response(Problem(exc.status_code, "Refused", str(exc)))


@api.exception_handler(RequestDataTooBig)
def _too_big(request: HttpRequest, exc: RequestDataTooBig) -> JsonResponse:
    message = f"takes more than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,} bytes, which is the most that is read"
    return problems.problem_response(problems.invalid([{"path": "", "message": message}]))


@api.exception_handler(Refused)
def _refused(request: HttpRequest, exc: Refused) -> JsonResponse:
    """Answer each error of the apps as its class says."""
    return problems.problem_response(problems.of(exc))


api.exception_handler(Problem)(problems.handle)
api.exception_handler(AuthenticationError)(
    _answer(401, "Unknown", "Sign in, or send `Authorization: Bearer <token>` with a token that is still valid.")
)
# Of a form with parts Django reads the stream where it looks for the CSRF token, and nothing is left of the body.
api.exception_handler(RawPostDataException)(
    _answer(415, "Unsupported media type", "Send the body as JSON, with Content-Type: application/json.")
)
api.exception_handler(Http404)(_answer(404, "Not found", "There is nothing at this address, or you may not see it."))
api.exception_handler(PermissionDenied)(_answer(403, "Not allowed", "Your roles do not allow this."))
api.exception_handler(OperationalError)(lambda request, exc: problems.problem_response(problems.database_away(request)))
api.exception_handler(InterfaceError)(lambda request, exc: problems.problem_response(problems.database_away(request)))


def _not_kept(request: HttpRequest, exc: Exception) -> JsonResponse:
    """Refuse what PostgreSQL cannot take: NUL in a text, a number beyond its column. No row has it either."""
    if not can_be_kept(request.path):
        return problems.problem_response(problems.not_found("such thing"))
    name = next((name for name, value in request.GET.items() if not can_be_kept(str(value))), "")
    message = UNKEPT if name else "It holds something that cannot be kept, such as NUL or a number that is too large."
    return problems.problem_response(problems.invalid([{"path": name, "message": message}]))


for _kind in NOT_KEPT:
    api.exception_handler(_kind)(_not_kept)

# The apps' routers, by name: the frame imports no app.
api.add_router("", "approvals.api.bulk.router")  # before: its path would be read as an id
api.add_router("", "approvals.api.requests.router")  # that of approvals.api.approvals, with what programs ask
api.add_router("", "orchestration.api.programs.router")
api.add_router("", "approvals.api.record.router")
# "runs/actions" before "runs/{run_id}", which would take it for a run
for _subject in (
    *("agents", "bulk", "runs", "actions", "checkpoints", "diagnosis", "batches", "timeline", "signals"),
    *("webhook_secrets", "agent_servers", "usage", "workflows", "storage", "thinking_again"),
):
    api.add_router("", f"orchestration.api.{_subject}.router")
api.add_router("", "dataplane.api.router")
api.add_router("", "dataplane.api.features.router")
