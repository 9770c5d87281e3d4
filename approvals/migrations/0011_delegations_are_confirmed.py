from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# What an admin made for somebody else before holds on; what she made for herself waits for another's word.
KEEP = """
UPDATE approvals_delegation SET confirmed_by_id = made_by_id, confirmed_at = made_at
WHERE made_by_id <> principal_id AND made_by_id <> delegate_id
"""


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("approvals", "0010_persons_on_the_record"),
    ]

    operations = [
        migrations.AddField(
            model_name="delegation",
            name="confirmed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="delegation",
            name="confirmed_by",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunSQL(KEEP, migrations.RunSQL.noop),
    ]
