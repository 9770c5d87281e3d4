"""The addresses of runs."""

from __future__ import annotations

from django.urls import path

from orchestration import signal_views, views

app_name = "orchestration"
urlpatterns = [
    path("runs/", views.runs, name="runs"),
    path("runs/new/", views.start, name="start"),
    path("runs/<id:run_id>/", views.run, name="run"),
    path("runs/<id:run_id>/actions/<str:action>/", views.act, name="act"),
    path("runs/<id:run_id>/checkpoints/<id:checkpoint_id>/", views.checkpoint, name="checkpoint"),
    path("signals/", signal_views.signals, name="signals"),
    path("signals/<int:pair_id>/confirm", signal_views.confirm, name="confirm_signal"),
    path("signals/<int:pair_id>/refuse", signal_views.refuse, name="refuse_signal"),
]
