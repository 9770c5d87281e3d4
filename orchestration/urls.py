"""The addresses of runs."""

from __future__ import annotations

from django.urls import path

from orchestration.pages import (
    acting,
    batches,
    bulk,
    programs,
    run,
    run_views,
    runs,
    signals,
    start,
    state,
    storage,
    stuck,
    thinking_again,
    timeline,
    usage,
    workflows,
)

app_name = "orchestration"
urlpatterns = [
    path("runs/", runs.runs, name="runs"),
    path("runs/new/", start.start, name="start"),
    path("runs/actions/", bulk.many, name="act_on_many"),
    path("runs/actions/<id:bulk_id>/", bulk.one, name="bulk"),
    path("runs/actions/<id:bulk_id>/stop", bulk.stop, name="stop_bulk"),
    path("runs/storage/", storage.storage, name="storage"),
    path("runs/stuck/", stuck.stuck, name="stuck"),
    path("runs/usage/", usage.usage, name="usage"),
    path("runs/views/", run_views.views, name="run_views"),
    path("runs/views/<int:view_id>/", run_views.change, name="run_view"),
    path("runs/<id:run_id>/", run.run, name="run"),
    path("runs/<id:run_id>/actions/<str:action>/", acting.act, name="act"),
    path("runs/<id:run_id>/think-again/", thinking_again.think_again, name="think_again"),
    path("runs/<id:run_id>/progress/", run.progress, name="progress"),
    path("runs/<id:run_id>/rest/", run.rest, name="run_rest"),
    path("runs/<id:run_id>/timeline/", timeline.timeline, name="timeline"),
    path("runs/<id:run_id>/timeline/events/", timeline.events, name="events"),
    path("runs/<id:run_id>/state/", state.state, name="state"),
    path("runs/<id:run_id>/checkpoints/<id:checkpoint_id>/", state.checkpoint, name="checkpoint"),
    path("runs/<id:run_id>/checkpoints/<id:checkpoint_id>/value/", state.value, name="value"),
    path("runs/<id:run_id>/checkpoints/<id:checkpoint_id>/diff/", state.difference, name="difference"),
    path("batches/", batches.batches, name="batches"),
    path("batches/new/", batches.start, name="start_batch"),
    path("batches/<id:batch_id>/", batches.batch, name="batch"),
    path("batches/<id:batch_id>/act", batches.act, name="act_on_batch"),
    path("batches/<id:batch_id>/results.<str:form>", batches.results, name="batch_results"),
    path("programs/", programs.programs, name="programs"),
    path("programs/<int:account_id>/secret", programs.make_secret, name="make_secret"),
    path("programs/secrets/<int:secret_id>/retire", programs.retire_secret, name="retire_secret"),
    path("workflows/", workflows.workflow, name="workflow"),
    path("workflows/send/", workflows.send, name="send"),
    path("signals/", signals.signals, name="signals"),
    path("signals/<int:pair_id>/confirm", signals.confirm, name="confirm_signal"),
    path("signals/<int:pair_id>/refuse", signals.refuse, name="refuse_signal"),
]
