from __future__ import annotations

from django.apps import AppConfig


class DataplaneConfig(AppConfig):
    name = "dataplane"
