"""The decision form. It checks the shape; whether the verdict can be taken is the service's to say."""

from __future__ import annotations

from django import forms

from approvals.models import Verdict
from approvals.services import Answer


class DecisionForm(forms.Form):
    """What the decision bar sends: the shown version and digest come back with the verdict."""

    verdict = forms.ChoiceField(choices=[(Verdict.APPROVE, "Approve"), (Verdict.REJECT, "Reject")])
    version = forms.IntegerField(min_value=1)
    digest = forms.RegexField(r"^[0-9a-f]{64}$")
    note = forms.CharField(required=False, strip=True)
    key = forms.CharField(required=False, max_length=200)

    def answer(self) -> Answer:
        """Return the checked form as the service takes it."""
        sent = self.cleaned_data
        return Answer(
            verdict=sent["verdict"],
            version=sent["version"],
            digest=sent["digest"],
            note=sent["note"],
            idempotency_key=sent["key"],
        )
