"""Django's own checks of models, URLs and settings: our processes leave them out when they start."""

from __future__ import annotations

import pytest
from django.core.management import call_command


@pytest.mark.django_db
def test_django_finds_nothing_wrong_with_the_project() -> None:
    call_command("check", fail_level="WARNING", databases=["default"])
