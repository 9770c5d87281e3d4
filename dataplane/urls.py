from __future__ import annotations

from django.urls import path

from dataplane import views
from dataplane.pages import dry_runs, flow_run_work, pools, schedules, search, start, versions

app_name = "dataplane"
urlpatterns = [
    path("data/", views.data, name="data"),
    path("data/flow-runs/", views.flow_runs, name="flow_runs"),
    path("data/flow-runs/<id:flow_run_id>/", views.flow_run, name="flow_run"),
    path("data/flow-runs/<id:flow_run_id>/work/", flow_run_work.work, name="flow_run_work"),
    path("data/flow-runs/<id:flow_run_id>/log.txt", flow_run_work.log, name="flow_run_log"),
    path("data/flow-runs/<id:flow_run_id>/actions/", flow_run_work.act, name="flow_run_act"),
    path("data/work-pools/", pools.work_pools, name="work_pools"),
    path("data/<slug:dataset>/", views.dataset, name="dataset"),
    path("data/<slug:dataset>/refresh/", views.refresh, name="refresh"),
    path("data/<slug:dataset>/start/", start.start_form, name="start"),
    path("data/<slug:dataset>/schedules/", schedules.schedules, name="schedules"),
    path("data/<slug:dataset>/versions/<int:number>/", views.version, name="version"),
    path("data/<slug:dataset>/versions/<int:number>/origin/", versions.origin, name="version_origin"),
    path("data/<slug:dataset>/versions/<int:number>/difference/", versions.difference, name="version_difference"),
    path("data/<slug:dataset>/versions/<int:number>/make-current/", versions.make_current, name="make_current"),
    path("data/<slug:dataset>/search/", search.search, name="search"),
    path("data/<slug:dataset>/dry-runs/<id:refresh_id>/", dry_runs.dry_run, name="dry_run"),
    path("data/<slug:dataset>/backfill/", versions.backfill, name="backfill"),
]
