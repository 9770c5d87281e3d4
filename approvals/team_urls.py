"""The addresses of what people do as a team."""

from __future__ import annotations

from django.urls import path

from approvals import team_views

urlpatterns = [
    path("approvals/<id:approval_id>/team", team_views.team, name="team"),
    path("approvals/<id:approval_id>/presence", team_views.presence, name="presence"),
    path("approvals/<id:approval_id>/claim", team_views.claim, name="claim"),
    path("approvals/<id:approval_id>/release", team_views.release, name="release"),
    path("approvals/<id:approval_id>/reassign", team_views.reassign, name="reassign"),
    path("approvals/<id:approval_id>/comment", team_views.comment, name="comment"),
    path("approvals/<id:approval_id>/standing", team_views.make_standing, name="make_standing"),
    path("delegations/", team_views.delegations, name="delegations"),
    path("delegations/make", team_views.delegate, name="delegate"),
    path("delegations/<int:delegation_id>/revoke", team_views.revoke_delegation, name="revoke_delegation"),
    path("delegations/<int:delegation_id>/confirm", team_views.confirm_delegation, name="confirm_delegation"),
    path("standing/", team_views.standing, name="standing"),
    path("standing/<id:standing_id>/", team_views.standing_one, name="standing_one"),
    path("standing/<id:standing_id>/revoke", team_views.revoke_standing, name="revoke_standing"),
    path("reviewers/", team_views.reviewers, name="reviewers"),
]
