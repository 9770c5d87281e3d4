"""The forms of one refresh, and of one start of somebody else's deployment."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

from django import forms
from django.http import QueryDict

from console.forms import schema_form
from dataplane.catalogue import DatasetEntry
from dataplane.errors import InvalidParameters
from dataplane.refreshes.keys import check_key


class TypedForm(forms.Form):
    """A key, and `typed`: the parameters, drawn and read by a JSON Schema."""

    typed: schema_form.Form
    key = forms.CharField(max_length=100)

    def is_valid(self) -> bool:
        return super().is_valid() and self.typed.is_valid

    def clean_key(self) -> str:
        key: str = self.cleaned_data["key"]
        try:
            check_key(key)
        except InvalidParameters as exc:
            raise forms.ValidationError([error["message"] for error in exc.errors]) from exc
        return key


class RefreshForm(TypedForm):
    """A refresh of a dataset of ours. What was left as it was stays the catalogue's default, which is never sent.

    The parameters are held against the schema and, once they fit it, against what the catalogue alone can say, so
    what is valid here is taken by `request_refresh`.
    """

    key = forms.CharField(max_length=100, help_text="The same key is the same refresh: it never runs twice.")

    def __init__(self, entry: DatasetEntry, data: QueryDict | None = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        schema, further = entry.parameters_schema(), partial(_beyond_the_schema, entry)
        self.typed = (
            schema_form.build(schema, prefix="", id_prefix=entry.name)
            if data is None
            else schema_form.read(schema, schema_form.MISSING, data, prefix="", id_prefix=entry.name, further=further)
        )
        widget = {"class": "input", "id": f"{entry.name}-key", "aria-describedby": f"{entry.name}-key-hint"}
        self.fields["key"].widget.attrs |= widget


def _beyond_the_schema(entry: DatasetEntry, parameters: Any) -> list[tuple[list[str | int], str]]:
    """Return what the catalogue refuses although the schema lets it, as (path, sentence)."""
    try:
        entry.clean(parameters or {})
    except InvalidParameters as exc:
        return [(_steps_in_parameters(error["path"]), error["message"]) for error in exc.errors]
    return []


def _steps_in_parameters(path: str) -> list[str | int]:
    return schema_form.steps_of(path.partition(".")[2])


class StartForm(TypedForm):
    """A start of somebody else's deployment, by the schema that `parameters.asked` gives.

    `schema_digest` comes with the form that was drawn: when the deployment has another schema by now, what was typed is
    shown again under the new one.
    """

    key = forms.CharField(max_length=100, help_text="The same key is the same run: it never runs twice.")
    schema_digest = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, name: str, schema: dict[str, Any], data: QueryDict | None = None, **kwargs: Any) -> None:
        self.digest = digest_of(schema)
        super().__init__(data, **kwargs)
        self.typed = (
            schema_form.build(schema, prefix="parameters", id_prefix=name)
            if data is None
            else schema_form.read(schema, schema_form.MISSING, data, prefix="parameters", id_prefix=name)
        )
        self.fields["key"].widget.attrs |= {"class": "input", "id": "start-key", "aria-describedby": "start-key-hint"}

    @property
    def was_drawn_of_another_schema(self) -> bool:
        return bool(self.data.get("schema_digest")) and self.data["schema_digest"] != self.digest

    def is_valid(self) -> bool:
        return super().is_valid() and not self.was_drawn_of_another_schema

    def show(self, refusal: InvalidParameters) -> None:
        """Put each sentence of the refusal beside the field it is about: Prefect may know another schema by now."""
        for error in refusal.errors:
            if error["path"].partition(".")[0] == "parameters":
                self.typed.add_error(_steps_in_parameters(error["path"]), error["message"])
            else:
                self.add_error("key" if error["path"] == "key" else None, error["message"])


def digest_of(schema: dict[str, Any]) -> str:
    """Return a short name of the schema, to see that it has changed."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
