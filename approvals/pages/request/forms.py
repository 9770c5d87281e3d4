"""The decision form. It checks the shape; whether the verdict can be taken is the service's to say."""

from __future__ import annotations

from typing import Any

from django import forms

from approvals.models import Verdict
from approvals.services import Answer
from console.text.json_text import NotJson, read_exactly


class DecisionForm(forms.Form):
    """What the decision bar sends: the shown version and digest come back with the verdict."""

    verdict = forms.ChoiceField(choices=Verdict.choices)
    version = forms.IntegerField(min_value=1)
    digest = forms.RegexField(r"^[0-9a-f]{64}$")
    note = forms.CharField(required=False, strip=True)
    answer = forms.CharField(required=False, strip=True)  # for the verdict `respond`
    edited = forms.CharField(required=False)  # for the verdict `edit`: the whole arguments as JSON
    key = forms.CharField(required=False, max_length=200)
    shown = forms.CharField(required=False, max_length=500)

    def clean_edited(self) -> dict[str, Any] | None:
        text = self.cleaned_data["edited"]
        if not text:
            return None
        try:
            edited = read_exactly(text)
        except NotJson as exc:
            raise forms.ValidationError(f"The changed arguments cannot be taken exactly. {exc}") from exc
        if not isinstance(edited, dict):
            raise forms.ValidationError("The changed arguments are no object.")
        return edited

    @property
    def is_respond(self) -> bool:
        return bool(self.cleaned_data["verdict"] == Verdict.RESPOND)

    def to_answer(self, answer_schema: dict[str, Any] | None = None) -> Answer:
        """Return the checked form as the service takes it. `answer_schema`: None where answers are text."""
        sent = self.cleaned_data
        verdict = sent["verdict"]
        return Answer(
            verdict=verdict,
            version=sent["version"],
            digest=sent["digest"],
            note=sent["note"],
            edited_arguments=sent["edited"] if verdict == Verdict.EDIT else None,
            answer=answer_from(sent["answer"], answer_schema) if verdict == Verdict.RESPOND else None,
            idempotency_key=sent["key"],
        )


def answer_from(typed: str, schema: dict[str, Any] | None) -> Any:
    """Return the JSON that a typed answer stands for: itself where text is wanted, else what it says as JSON.

    What is no JSON is text, and whoever checks it says what is wanted instead. Text that looks like JSON is written
    between quotation marks.
    """
    if schema is None or (schema.get("type") == "string"):
        return typed
    try:
        return read_exactly(typed)
    except NotJson:
        return typed
