"""The addresses of runs."""

from __future__ import annotations

from django.urls import path

from orchestration.pages import acting, batches, run, runs, signals, start

app_name = "orchestration"
urlpatterns = [
    path("runs/", runs.runs, name="runs"),
    path("runs/new/", start.start, name="start"),
    path("runs/<id:run_id>/", run.run, name="run"),
    path("runs/<id:run_id>/actions/<str:action>/", acting.act, name="act"),
    path("runs/<id:run_id>/checkpoints/<id:checkpoint_id>/", run.checkpoint, name="checkpoint"),
    path("batches/", batches.batches, name="batches"),
    path("batches/new/", batches.start, name="start_batch"),
    path("batches/<id:batch_id>/", batches.batch, name="batch"),
    path("batches/<id:batch_id>/act", batches.act, name="act_on_batch"),
    path("batches/<id:batch_id>/results.<str:form>", batches.results, name="batch_results"),
    path("signals/", signals.signals, name="signals"),
    path("signals/<int:pair_id>/confirm", signals.confirm, name="confirm_signal"),
    path("signals/<int:pair_id>/refuse", signals.refuse, name="refuse_signal"),
]
