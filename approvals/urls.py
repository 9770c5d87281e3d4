"""The addresses of the inbox and of single requests."""

from __future__ import annotations

from django.urls import path

from approvals import edit_views, exports, lane_views, record_views, team_urls, views

app_name = "approvals"
urlpatterns = [
    path("inbox/", views.inbox, name="inbox"),
    path("inbox/export.csv", exports.export, name="export"),
    path("approvals/<str:approval_id>/", views.approval, name="approval"),
    path("approvals/<str:approval_id>/decision", views.decide, name="decide"),
    path("approvals/<str:approval_id>/decision/recorded", views.find_out, name="find_out"),
    path("approvals/<str:approval_id>/edit", edit_views.edit, name="edit"),
    path("approvals/<str:approval_id>/compare", edit_views.compare, name="compare"),
    path("inbox/did-not-take-effect/", lane_views.show, name="lane"),
    path("approvals/<str:approval_id>/redrive", lane_views.act, name="redrive"),
    *team_urls.urlpatterns,
    path("record/", record_views.entries, name="record"),
    path("record/verify", record_views.verify, name="verify_record"),
]
