"""The stuck list: what runs need somebody for, the worst first."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console import roles
from console.fragments import page_or_fragment
from console.http import needs, person
from console.live.parts import is_a_part
from orchestration.diagnosis import stuck as stuck_list
from orchestration.titles import title_of


@is_a_part
@require_safe
@needs("see")
def stuck(request: HttpRequest) -> HttpResponse:
    """All runs that need somebody, those that one cure helps together."""
    user, cursor = person(request), request.GET.get("cursor", "")
    page = stuck_list.groups_for(user, cursor=cursor)
    is_whole = not cursor and page.next is None
    context = {
        "groups": [(group, [(run, title_of(run)) for run in group.runs]) for group in page.groups],
        "count": sum(group.count for group in page.groups) if is_whole else stuck_list.stuck_runs(user).count(),
        "cursor": cursor,
        "next": page.next,
        "may_act": roles.may(request.user, "act_on_run"),
    }
    return page_or_fragment(request, "orchestration/stuck.html", "orchestration/_stuck.html", context)
