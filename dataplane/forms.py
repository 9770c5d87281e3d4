"""The form of one refresh, made from the dataset's own parameter schema."""

from __future__ import annotations

from typing import Any

from django import forms

from dataplane.catalogue import DatasetEntry
from dataplane.errors import InvalidParameters


class RefreshForm(forms.Form):
    """A key, and one field per parameter. What was left as it was is not sent: it stays a default.

    The rules themselves are the schema's; `services.request_refresh` checks them and `show` puts its words here.
    """

    key = forms.CharField(max_length=100, help_text="The same key is the same refresh: it never runs twice.")

    def __init__(self, entry: DatasetEntry, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._defaults: dict[str, Any] = {}
        for name, schema in entry.parameters_schema()["properties"].items():
            self._defaults[name] = schema.get("default")
            self.fields[name] = _field(schema)
        for name, field in self.fields.items():
            field.widget.attrs |= {"class": "input", "id": f"{entry.name}-{name}"}
            if field.help_text:
                field.widget.attrs["aria-describedby"] = f"{entry.name}-{name}-hint"

    def parameters(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        given = {name: self.cleaned_data.get(name) for name in self._defaults}
        return {name: value for name, value in given.items() if value not in (None, self._defaults[name])}

    def parameter_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self._defaults]

    def has_parameter_errors(self) -> bool:
        return any(name in self.errors for name in self._defaults)

    def show(self, refusal: InvalidParameters) -> None:
        """Put each sentence of the refusal beside the field it is about."""
        for path, message in refusal.errors:
            name = path.removeprefix("parameters.")
            self.add_error(name if name in self.fields else None, message)


def _field(schema: dict[str, Any]) -> forms.Field:
    """Return a field for one property of a JSON schema: integers and text are what refreshes need."""
    words: dict[str, Any] = {
        "label": schema["title"],
        "help_text": schema.get("description", ""),
        "initial": schema.get("default"),
        "required": False,
    }
    if schema.get("type") == "integer":
        return forms.IntegerField(min_value=schema.get("minimum"), max_value=schema.get("maximum"), **words)
    return forms.CharField(max_length=schema.get("maxLength"), **words)
