from __future__ import annotations

from django.db import migrations

import dataplane.models


class Migration(migrations.Migration):

    dependencies = [("dataplane", "0001_initial")]

    operations = [
        migrations.AlterField("refresh", "error", dataplane.models.ReasonField(blank=True, db_default="")),
        migrations.AlterField("refresh", "send_error", dataplane.models.ReasonField(blank=True, db_default="")),
    ]
