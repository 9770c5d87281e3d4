"""Claims, comments, delegations and what is approved in advance, as pages and as parts of a request's page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from approvals import services
from approvals.errors import (
    ApprovalError,
    InvalidChange,
    MayNotDecide,
    NoSuchApproval,
    NotTheirs,
    StaleVersion,
)
from approvals.models import Approval
from approvals.pages.request.page import team_parts
from approvals.pages.team.forms import (
    ZONES,
    StandingForm,
    WindowForm,
    blank_standing_form,
    keep_zone,
    moment,
    who_may_decide,
    zone_of,
)
from approvals.people.permissions import may_decide
from approvals.reading import attention, requests
from approvals.reading.standing import standing_list, standing_named, uses_of
from approvals.reading.team import also_looking, windows_of
from console import roles
from console.clock import database_now
from console.fragments import page_or_fragment, part_of_page
from console.http import is_htmx, needs, not_allowed, person, sentence
from console.live.parts import is_a_part
from console.text.stored import asked_text


@is_a_part
@require_safe
@needs("see")
def team(request: HttpRequest, approval_id: str) -> HttpResponse:
    """The team's part of one request, alone."""
    user = person(request)
    return _answer(request, user, requests.whole_request(user, approval_id))


@is_a_part
@require_safe
@needs("see")
def presence(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Who else has the request open, fetched again when somebody comes or leaves."""
    user = person(request)
    found = requests.whole_request(user, approval_id)
    address = reverse("approvals:approval", args=[found.pk])
    return part_of_page(
        request,
        address,
        "approvals/_team_presence.html",
        lambda: {"approval": found, "others": also_looking(user, found.pk)},
    )


@require_POST
@needs("see")
def claim(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Claim it, or renew the claim."""
    return _change(request, approval_id, lambda user: services.claim(approval_id=approval_id, by=user))


@require_POST
@needs("see")
def release(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Give the claim back."""
    return _change(request, approval_id, lambda user: services.release(approval_id=approval_id, by=user))


@require_POST
@needs("see")
def reassign(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Hand it to somebody."""

    def hand(user: User) -> object:
        to = User.objects.filter(username=asked_text(request.POST.get("to"), 150)).first()
        if to is None:
            raise InvalidChange("to", "Choose somebody from the list.")
        return services.reassign(approval_id=approval_id, by=user, to=to)

    return _change(request, approval_id, hand)


@require_POST
@needs("see")
def comment(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Say something to the others."""
    text = request.POST.get("text", "")
    return _change(request, approval_id, lambda user: services.comment(approval_id=approval_id, by=user, text=text))


@require_POST
@needs("decide")
def make_standing(request: HttpRequest, approval_id: str) -> HttpResponse:
    """Approve in advance what is like this request."""
    user = person(request)
    found = requests.whole_request(user, approval_id)
    form = blank_standing_form(found)
    form.take(request.POST)
    try:
        made = services.make_standing(
            approval_id=approval_id,
            digest=request.POST.get("digest", ""),
            by=user,
            given=[row.condition() for row in form.rows],
            reason=form.reason,
            uses_at_most=form.number("uses"),
            expires_at=database_now() + timedelta(days=form.number("days")),
        )
    except (InvalidChange, MayNotDecide, NotTheirs, StaleVersion) as exc:
        form.blame(exc)
        return _answer(request, user, requests.whole_request(user, approval_id), form=form, status=exc.http_status)
    messages.success(request, "From now on, requests exactly like this one are approved in your name.")
    address = reverse("approvals:standing_one", args=[made.pk])
    if is_htmx(request):
        return HttpResponse(headers={"HX-Redirect": address})
    return redirect(address)


def _change(request: HttpRequest, approval_id: str, change: Callable[[User], object]) -> HttpResponse:
    user = person(request)
    try:
        change(user)
    except NoSuchApproval:
        raise
    except ApprovalError as exc:
        return _answer(
            request,
            user,
            requests.whole_request(user, approval_id),
            fault=exc.sentence,
            status=exc.http_status,
        )
    if is_htmx(request):
        return _answer(request, user, requests.whole_request(user, approval_id))
    return redirect("approvals:approval", approval_id)


def _answer(
    request: HttpRequest,
    user: User,
    found: Approval,
    *,
    fault: str = "",
    form: StandingForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """Answer with the part that was sent, or with a page of its own for browsers without script."""
    context = team_parts(user, found, may_decide(user, found))
    context |= {"fault": fault, "typed": request.POST.get("text", "") if fault else ""}
    if form is not None:
        context["standing"] = form
    fragment = "approvals/_standing_form.html" if form is not None else "approvals/_team.html"
    return page_or_fragment(request, "approvals/team.html", fragment, context, status=status)


@require_safe
@needs("see")
def delegations(request: HttpRequest) -> HttpResponse:
    """Who stands in for whom, and the form to let somebody stand in."""
    return _delegations(request, WindowForm(zone=zone_of(request)))


@require_POST
@needs("see")
def delegate(request: HttpRequest) -> HttpResponse:
    """Let somebody stand in."""
    user = person(request)
    form = WindowForm.sent(request.POST, keep_zone(request, request.POST.get("zone", "")))
    try:
        services.delegate(
            principal=form.account(form.principal, "principal") if form.principal else user,
            to=form.account(form.to, "to"),
            starts_at=moment(form.starts_at, form.zone, "starts_at"),
            ends_at=moment(form.ends_at, form.zone, "ends_at"),
            reason=form.reason,
            by=user,
        )
    except InvalidChange as exc:
        form.faults[exc.field] = exc.sentence
        return _delegations(request, form, status=exc.http_status)
    except NotTheirs as exc:
        form.faults["principal"] = exc.sentence
        return _delegations(request, form, status=exc.http_status)
    is_for_me = form.principal in ("", user.username)
    later = f"once {form.principal} or a second admin has confirmed it. {form.principal} is told"
    words = "from then on, for open requests too" if is_for_me else later
    messages.success(request, f"{form.to} stands in {words}.")
    return redirect("approvals:delegations")


@require_POST
@needs("see")
def revoke_delegation(request: HttpRequest, delegation_id: int) -> HttpResponse:
    """End a delegation now."""
    try:
        services.revoke_delegation(delegation_id=delegation_id, by=person(request))
    except NotTheirs as exc:
        raise Http404 from exc
    messages.success(request, "That delegation has ended.")
    return redirect("approvals:delegations")


@require_POST
@needs("see")
def confirm_delegation(request: HttpRequest, delegation_id: int) -> HttpResponse:
    """Let a delegation hold that an admin made for somebody else."""
    try:
        services.confirm_delegation(delegation_id=delegation_id, by=person(request))
    except NotTheirs as exc:
        raise Http404 from exc
    except InvalidChange as exc:
        messages.error(request, str(exc))
    else:
        messages.success(request, "Confirmed: it holds for the time that it names.")
    return redirect("approvals:delegations")


def _delegations(request: HttpRequest, form: WindowForm, *, status: int = 200) -> HttpResponse:
    user = person(request)
    able = who_may_decide()
    context = {
        "windows": windows_of(user),
        "form": form,
        "colleagues": [name for name in able if name != user.username or roles.has_role(user, "admin")],
        "principals": able if roles.has_role(user, "admin") else [],
        "zones": ZONES,
        "now": database_now(),
    }
    return render(request, "approvals/delegations.html", context, status=status)


@require_safe
@needs("see")
def standing(request: HttpRequest) -> HttpResponse:
    """All that is approved in advance."""
    return render(request, "approvals/standing.html", {"given": standing_list(person(request))})


@require_safe
@needs("see")
def standing_one(request: HttpRequest, standing_id: str) -> HttpResponse:
    """One standing approval with its uses."""
    found = standing_named(person(request), standing_id)
    if found is None:
        raise Http404
    return render(request, "approvals/standing_one.html", {"one": found, "uses": uses_of(found)})


@require_POST
@needs("see")
def revoke_standing(request: HttpRequest, standing_id: str) -> HttpResponse:
    """Take a standing approval back."""
    user = person(request)
    if standing_named(user, standing_id) is None:
        raise Http404
    try:
        services.revoke_standing(standing_id=standing_id, by=user)
    except NotTheirs as exc:
        title = "This is not yours to take back"
        return sentence(request, exc.http_status, title=title, detail=exc.sentence, other_account=True)
    messages.success(request, "Taken back. Nothing that has not begun counts on it any more.")
    return redirect("approvals:standing_one", standing_id)


@require_safe
@needs("see")
def reviewers(request: HttpRequest) -> HttpResponse:
    """How people decide: one's own figures, everybody's for admins."""
    user = person(request)
    if not (roles.may(user, "decide") or roles.has_role(user, "admin")):
        return not_allowed(request, "decide")
    everybody = roles.has_role(user, "admin")
    context = {"report": attention.report(None if everybody else user), "is_everybody": everybody}
    return render(request, "approvals/reviewers.html", context)
