"""The addresses of runs."""

from __future__ import annotations

from django.urls import path

from orchestration import views

app_name = "orchestration"
urlpatterns = [
    path("runs/", views.runs, name="runs"),
    path("runs/new/", views.start, name="start"),
    path("runs/<str:run_id>/", views.run, name="run"),
    path("runs/<str:run_id>/checkpoints/<str:checkpoint_id>/", views.checkpoint, name="checkpoint"),
]
