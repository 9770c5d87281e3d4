from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("orchestration", "0028_which_runs_a_key_is_for"),)

    operations = (
        migrations.AddField(
            model_name="answerdelivery", name="fetched_at", field=models.DateTimeField(blank=True, null=True)
        ),
    )
