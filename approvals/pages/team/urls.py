"""The addresses of what people do as a team."""

from __future__ import annotations

from django.urls import path

from approvals.pages.team import views

urlpatterns = [
    path("approvals/<id:approval_id>/team", views.team, name="team"),
    path("approvals/<id:approval_id>/presence", views.presence, name="presence"),
    path("approvals/<id:approval_id>/claim", views.claim, name="claim"),
    path("approvals/<id:approval_id>/release", views.release, name="release"),
    path("approvals/<id:approval_id>/reassign", views.reassign, name="reassign"),
    path("approvals/<id:approval_id>/comment", views.comment, name="comment"),
    path("approvals/<id:approval_id>/standing", views.make_standing, name="make_standing"),
    path("delegations/", views.delegations, name="delegations"),
    path("delegations/make", views.delegate, name="delegate"),
    path("delegations/<int:delegation_id>/revoke", views.revoke_delegation, name="revoke_delegation"),
    path("delegations/<int:delegation_id>/confirm", views.confirm_delegation, name="confirm_delegation"),
    path("standing/", views.standing, name="standing"),
    path("standing/<id:standing_id>/", views.standing_one, name="standing_one"),
    path("standing/<id:standing_id>/revoke", views.revoke_standing, name="revoke_standing"),
    path("reviewers/", views.reviewers, name="reviewers"),
]
