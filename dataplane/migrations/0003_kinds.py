from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("dataplane", "0002_reasons")]

    operations = [
        migrations.AddField("datasetversion", "kind", models.CharField(db_default="passages", max_length=40)),
        migrations.AlterField(
            "datasetversion", "embedder", models.CharField(blank=True, db_default="", max_length=100)
        ),
    ]
