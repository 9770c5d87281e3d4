"""The form of one refresh, made from the dataset's own parameter schema."""

from __future__ import annotations

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
