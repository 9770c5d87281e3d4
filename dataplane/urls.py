from __future__ import annotations

from django.urls import path

from dataplane import views
from dataplane.pages import schedules

app_name = "dataplane"
urlpatterns = [
    path("data/", views.data, name="data"),
    path("data/flow-runs/", views.flow_runs, name="flow_runs"),
    path("data/flow-runs/<id:flow_run_id>/", views.flow_run, name="flow_run"),
    path("data/<slug:dataset>/", views.dataset, name="dataset"),
    path("data/<slug:dataset>/refresh/", views.refresh, name="refresh"),
    path("data/<slug:dataset>/schedules/", schedules.schedules, name="schedules"),
    path("data/<slug:dataset>/versions/<int:number>/", views.version, name="version"),
]
