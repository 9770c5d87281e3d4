"""The form of one refresh, made from the dataset's own parameter schema."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django import forms
from django.http import QueryDict

from console.forms import schema_form
from dataplane.catalogue import DatasetEntry
from dataplane.errors import InvalidParameters


class RefreshForm(forms.Form):
    """A key, and `typed`: the parameters. The catalogue sends no default, so what was left as it was stays one.

    Rules that a schema cannot say are the catalogue's; `request_refresh` checks them and `show` puts its
    words here.
    """

    key = forms.CharField(max_length=100, help_text="The same key is the same refresh: it never runs twice.")

    def __init__(self, entry: DatasetEntry, data: QueryDict | None = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        schema, names = entry.parameters_schema(), {"prefix": "", "id_prefix": entry.name}
        self.typed = (
            schema_form.build(schema, **names)
            if data is None
            else schema_form.read(schema, schema_form.MISSING, data, **names)
        )
        widget = {"class": "input", "id": f"{entry.name}-key", "aria-describedby": f"{entry.name}-key-hint"}
        self.fields["key"].widget.attrs |= widget

    def is_valid(self) -> bool:
        return super().is_valid() and self.typed.is_valid

    def show(self, refusal: InvalidParameters) -> None:
        """Put each sentence of the refusal beside the field it is about."""
        for error in refusal.errors:
            message = error["message"]
            first, _, below = error["path"].partition(".")
            if first == "parameters":
                self.typed.add_error(schema_form.steps_of(below), message)
            else:
                self.add_error("key" if first == "key" else None, message)


class StartForm(forms.Form):
    """A key and `typed`: the parameters of somebody else's deployment, by the schema that `parameters.asked` gives.

    `schema_digest` comes with the form that was drawn: when the deployment has another schema by now, what was typed is
    shown again under the new one.
    """

    key = forms.CharField(max_length=100, help_text="The same key is the same run: it never runs twice.")
    schema_digest = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, name: str, schema: dict[str, Any], data: QueryDict | None = None, **kwargs: Any) -> None:
        self.digest = digest_of(schema)
        super().__init__(data, **kwargs)
        names = {"prefix": "parameters", "id_prefix": name}
        self.typed = (
            schema_form.build(schema, **names)
            if data is None
            else schema_form.read(schema, schema_form.MISSING, data, **names)
        )
        self.fields["key"].widget.attrs |= {"class": "input", "id": "start-key", "aria-describedby": "start-key-hint"}

    @property
    def was_drawn_of_another_schema(self) -> bool:
        return bool(self.data.get("schema_digest")) and self.data["schema_digest"] != self.digest

    def is_valid(self) -> bool:
        return super().is_valid() and self.typed.is_valid and not self.was_drawn_of_another_schema

    def show(self, refusal: InvalidParameters) -> None:
        """Put each sentence of the refusal beside the field it is about."""
        for error in refusal.errors:
            first, _, below = error["path"].partition(".")
            if first == "parameters":
                self.typed.add_error(schema_form.steps_of(below), error["message"])
            else:
                self.add_error("key" if first == "key" else None, error["message"])


def digest_of(schema: dict[str, Any]) -> str:
    """Return a short name of the schema, to see that it has changed."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]
