from __future__ import annotations

from django.db import migrations

import dataplane.models


class Migration(migrations.Migration):

    dependencies = [("dataplane", "0006_other_peoples_flows")]

    operations = [
        migrations.AddField("refresh", "note", dataplane.models.ReasonField(blank=True, db_default="")),
    ]
