from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("dataplane", "0003_kinds")]

    operations = [
        migrations.AddField("dataset", "scheduled_at", models.DateTimeField(blank=True, null=True)),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("slug", models.SlugField()),
                ("cron", models.CharField(max_length=100)),
                ("timezone", models.CharField(db_default="UTC", max_length=60)),
                ("is_active", models.BooleanField(db_default=True)),
                (
                    "dataset",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="schedules", to="dataplane.dataset"
                    ),
                ),
            ],
            options={"ordering": ("dataset", "slug")},
        ),
        migrations.AddConstraint(
            "schedule", models.UniqueConstraint(fields=("dataset", "slug"), name="one_schedule_per_slug")
        ),
    ]
