"""What a refresh would change: the page of one dry run, which fills itself when its flow run has ended."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from console.fragments import page_or_fragment
from console.http import needs
from console.live.parts import is_a_part
from dataplane import selectors


@is_a_part
@require_safe
@needs("see")
def dry_run(request: HttpRequest, dataset: str, refresh_id: str) -> HttpResponse:
    """The rows that would be added, removed and changed; until then, how far it is."""
    refresh = selectors.refresh(refresh_id)
    if refresh.dataset_id != dataset or not refresh.is_dry_run:
        raise Http404(f"There is no dry run {refresh_id} of {dataset}.")
    preview = refresh.preview or {}
    counts = preview.get("counts", {})
    kinds = [(kind, preview.get(kind, []), counts.get(kind, 0)) for kind in ("added", "removed", "changed")]
    context = {"state": selectors.dataset(dataset), "refresh": refresh, "preview": preview, "kinds": kinds}
    return page_or_fragment(request, "dataplane/dry_run.html", "dataplane/_dry_run.html", context)
