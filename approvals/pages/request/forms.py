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

    def to_answer(self) -> Answer:
        """Return the checked form as the service takes it."""
        sent = self.cleaned_data
        verdict = sent["verdict"]
        return Answer(
            verdict=verdict,
            version=sent["version"],
            digest=sent["digest"],
            note=sent["note"],
            edited_arguments=sent["edited"] if verdict == Verdict.EDIT else None,
            answer=sent["answer"] if verdict == Verdict.RESPOND else None,
            idempotency_key=sent["key"],
        )
