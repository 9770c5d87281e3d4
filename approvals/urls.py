"""The addresses of the inbox and of single requests."""

from __future__ import annotations

from django.urls import path

from approvals.pages.bulk import views as bulk_views
from approvals.pages.inbox import exports
from approvals.pages.inbox import views as inbox_views
from approvals.pages.policy import urls as policy_urls
from approvals.pages.record import views as record_views
from approvals.pages.request import edit_views
from approvals.pages.request import views as request_views
from approvals.pages.stalled import views as stalled_views
from approvals.pages.team import urls as team_urls

app_name = "approvals"
urlpatterns = [
    path("inbox/", inbox_views.inbox, name="inbox"),
    path("inbox/views/", inbox_views.views, name="views"),
    path("inbox/views/<int:view_id>", inbox_views.change, name="view"),
    path("inbox/review", bulk_views.review, name="review"),
    path("inbox/together", bulk_views.decide_together, name="decide_together"),
    path("inbox/export.csv", exports.export, name="export"),
    path("approvals/<id:approval_id>/", request_views.approval, name="approval"),
    path("approvals/<id:approval_id>/decision", request_views.decide, name="decide"),
    path("approvals/<id:approval_id>/decision/recorded", request_views.find_out, name="find_out"),
    path("approvals/<id:approval_id>/edit", edit_views.edit, name="edit"),
    path("approvals/<id:approval_id>/compare", edit_views.compare, name="compare"),
    path("inbox/did-not-take-effect/", stalled_views.show, name="lane"),
    path("approvals/<id:approval_id>/redrive", stalled_views.act, name="redrive"),
    *team_urls.urlpatterns,
    *policy_urls.urlpatterns,
    path("record/", record_views.entries, name="record"),
    path("record/verify", record_views.verify, name="verify_record"),
]
