from __future__ import annotations

from django.conf import settings
from django.db import migrations, models

# Rows from before: what took effect follows from the steps. A failed effect had a detail that says so, a done one had
# none. What is left from more than a week ago is not brought up again: nobody was promised a lane then.
FILL = """
UPDATE approvals_approval a SET took_effect_at = s.at FROM approvals_receiptstep s
WHERE s.approval_id = a.id AND a.status <> 'pending' AND (
    s.step = 'effect_finished' AND s.detail = ''
    OR s.step = 'resumed' AND (a.status <> 'decided' OR a.kind = 'outcome' OR EXISTS (
        SELECT FROM approvals_decision d WHERE d.approval_id = a.id AND d.verdict IN ('reject', 'respond')))
);
UPDATE approvals_approval SET expected_by = closed_at + interval '2 minutes'
WHERE status = 'decided' AND took_effect_at IS NULL AND NOT is_seeded AND closed_at > now() - interval '7 days';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('approvals', '0004_what_programs_ask'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='approval',
            name='expected_by',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='approval',
            name='took_effect_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name='receiptstep',
            name='step',
            field=models.CharField(choices=[('recorded', 'Recorded'), ('signalled', 'Signalled'), ('resumed', 'Resumed'), ('effect_started', 'Effect Started'), ('effect_finished', 'Effect Finished'), ('refused', 'Refused'), ('set_aside', 'Set Aside')], max_length=20),
        ),
        migrations.AddIndex(
            model_name='approval',
            index=models.Index(condition=models.Q(('expected_by__isnull', False)), fields=['expected_by', 'id'], name='approval_on_its_way'),
        ),
        # Last: indexes cannot be made in the transaction in which rows were written.
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
