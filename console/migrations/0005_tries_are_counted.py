from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('console', '0004_heartbeats_say_whether_they_can_work'),
    ]

    operations = [
        migrations.CreateModel(
            name='SignInCount',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(max_length=10)),
                ('account', models.CharField(blank=True, max_length=20)),
                ('place', models.CharField(blank=True, max_length=50)),
                ('since', models.DateTimeField()),
                ('count', models.PositiveIntegerField()),
                ('told', models.PositiveIntegerField(default=0)),
            ],
            options={
                'indexes': [models.Index(fields=['since'], name='tries_by_age')],
                'constraints': [models.UniqueConstraint(fields=('scope', 'account', 'place'), name='one_count_of_tries')],
            },
        ),
    ]
