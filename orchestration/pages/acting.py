"""What an operator does about a run: what the action takes, what it would do, a reason, and the button.

The form of an action's options is drawn from their schema. Where they have to be filled in first, the page shows what
it would do once that is asked for; the state that was shown comes back with the click, so that a changed world is told.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from approvals.errors import InvalidChange
from approvals.models import Approval
from console.forms import schema_form
from console.http import needs, person
from orchestration import checkpoint_gateway, selectors
from orchestration.actions import acting
from orchestration.actions.base import Action, Preview
from orchestration.actions.state import is_plain, schema_of_value
from orchestration.actions.table import ACTIONS
from orchestration.errors import ActionRefused, InvalidOptions, NoSuchCheckpoint
from orchestration.models import Effect, Run
from orchestration.state.secrets import hidden_of

_PREFIX = "options"
POINTS_AT_MOST = 100


@require_http_methods(["GET", "HEAD", "POST"])
@needs("act_on_run")
def act(request: HttpRequest, run_id: str, action: str) -> HttpResponse:
    """Do something about a run: what it would do, a reason, and the button that does it."""
    run = selectors.run_for(request.user, run_id)
    known = ACTIONS.get(action)
    if known is None:
        raise Http404
    sent = request.POST if request.method == "POST" else None
    form, given = _options(known, run, sent, request.GET)
    fault, status, reason = "", 200, request.POST.get("reason", "")
    if sent is not None and "show" not in sent:
        if given is None:
            status = 422
        else:
            try:
                state = sent.get("state", "")[:100]
                done = acting.act(
                    run_id=run.pk, action=action, reason=reason, by=person(request), state=state, options=given
                )
            except InvalidOptions as exc:
                status = exc.http_status
            except (InvalidChange, ActionRefused) as exc:
                fault, status = exc.sentence, exc.http_status
            else:
                messages.success(request, known.said)
                return redirect("orchestration:run", (done.new_run or run).pk)
            run.refresh_from_db()
    context: dict[str, Any] = {"run": run, "action": known, "form": form, "reason": reason, "fault": fault}
    if known.takes_point:
        context |= _points(run, (sent or request.GET).get("checkpoint_id", "")[:100])
    # Who has typed nothing yet has made no mistake.
    told = form if sent is not None or request.GET else None
    return render(request, "orchestration/action.html", context | _preview(run, known, told, given), status=status)


def _options(
    action: Action, run: Run, sent: QueryDict | None, address: QueryDict
) -> tuple[schema_form.Form | None, dict[str, Any] | None]:
    """Return the form, `None` where the action takes nothing, and what it says, `None` where that cannot be taken."""
    if action.takes_point:
        return _at_a_point(action, run, sent, (sent or address).get("checkpoint_id", "")[:100])
    if not action.options.model_fields:
        return None, {}
    start = action.start(run) | {name: address[name] for name in action.options.model_fields if name in address}
    if sent is None:
        form = schema_form.build(action.schema, start, prefix=_PREFIX, id_prefix="field")
        return form, start
    form = schema_form.read(action.schema, start, sent, prefix=_PREFIX, id_prefix="field")
    return form, form.value if form.is_valid else None


def _at_a_point(
    action: Action, run: Run, sent: QueryDict | None, checkpoint_id: str
) -> tuple[schema_form.Form | None, dict[str, Any] | None]:
    """Return the form of the state at the checkpoint, where the action takes one, and the options."""
    if not checkpoint_id:
        return None, None
    where: dict[str, Any] = {"checkpoint_id": checkpoint_id}
    if "values" not in action.options.model_fields:
        return None, where
    try:
        state = hidden_of(run.agent).without(checkpoint_gateway.checkpoint_of(run.pk, checkpoint_id).values)
    except NoSuchCheckpoint:
        return None, where  # the preview says so
    plain = {name: value for name, value in state.items() if is_plain(value)}
    if not plain:
        return None, where
    schema = {"type": "object", "properties": {name: schema_of_value(name, one) for name, one in plain.items()}}
    if sent is None:
        return schema_form.build(schema, plain, prefix=_PREFIX, id_prefix="field"), where
    form = schema_form.read(schema, plain, sent, prefix=_PREFIX, id_prefix="field")
    if not form.is_valid:
        return form, None
    changed = {name: value for name, value in form.value.items() if value != plain.get(name)}
    return form, where | ({"values": changed} if changed else {})


def _points(run: Run, chosen: str) -> dict[str, Any]:
    """Return the checkpoint that was chosen, or those to choose from, newest first."""
    if chosen:
        return {"checkpoint_id": chosen}
    return {"points": checkpoint_gateway.checkpoints_of(run.pk, limit=POINTS_AT_MOST), "most": POINTS_AT_MOST}


def _preview(run: Run, action: Action, form: schema_form.Form | None, given: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the action would do, or why it would not be taken."""
    shown: dict[str, Any] = {"preview": None, "refusal": ""}
    if given is None:
        return shown
    try:
        seen = acting.preview(run, action.name, given)
    except ActionRefused as exc:
        return shown | {"refusal": str(exc)}
    except InvalidOptions as exc:
        for error in exc.errors if form else []:
            form.add_error(schema_form.steps_of(error["path"]), error["message"])  # type: ignore[union-attr]
        return shown
    return shown | {"preview": seen} | _named(run, seen)


def _named(run: Run, seen: Preview) -> dict[str, Any]:
    """Return the rows that a preview names by their ids."""
    ids = {*seen.approvals_withdrawn, *seen.effects_kept, *seen.effects_repeated}
    asked = Approval.objects.in_bulk(ids) if ids else {}
    effects = Effect.objects.in_bulk(ids) if ids else {}
    return {
        "withdrawn": [asked[pk] for pk in seen.approvals_withdrawn if pk in asked],
        "kept": [(effects[pk], asked.get(pk)) for pk in seen.effects_kept if pk in effects],
        "repeated": [(effects[pk], asked.get(pk)) for pk in seen.effects_repeated if pk in effects],
    }
