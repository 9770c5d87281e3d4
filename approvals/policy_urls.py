"""The addresses of the policy."""

from __future__ import annotations

from django.urls import path

from approvals import policy_views

urlpatterns = [
    path("policy/", policy_views.policy, name="policy"),
    path("policy/edit", policy_views.edit, name="policy_edit"),
    path("policy/versions/<int:number>/", policy_views.version, name="policy_version"),
    path("policy/versions/<int:number>/settle", policy_views.settle, name="policy_settle"),
]
