"""The addresses of the policy."""

from __future__ import annotations

from django.urls import path

from approvals.pages.policy import views

urlpatterns = [
    path("policy/", views.policy, name="policy"),
    path("policy/edit", views.edit, name="policy_edit"),
    path("policy/versions/<int:number>/", views.version, name="policy_version"),
    path("policy/versions/<int:number>/settle", views.settle, name="policy_settle"),
]
