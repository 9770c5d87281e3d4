from __future__ import annotations

import console.clock
import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
import pgvector.django.vector
from django.conf import settings
from django.db import migrations, models
from pgvector.django import VectorExtension


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ("console", "0001_initial"),  # signalbox_now()
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        VectorExtension(),
        migrations.CreateModel(
            name='Dataset',
            fields=[
                ('name', models.SlugField(primary_key=True, serialize=False)),
                ('title', models.CharField(max_length=200)),
                ('last_version', models.PositiveIntegerField(db_default=0)),
                ('confirmed_at', models.DateTimeField(blank=True, null=True)),
                ('fresh_for', models.DurationField()),
            ],
        ),
        migrations.CreateModel(
            name='DatasetVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('version', models.PositiveIntegerField()),
                ('digest', models.CharField(max_length=64)),
                ('rows', models.PositiveIntegerField()),
                ('embedder', models.CharField(max_length=100)),
                ('published_at', models.DateTimeField(db_default=console.clock.DatabaseNow())),
                ('prefect_flow_run_id', models.CharField(max_length=36)),
                ('parameters', models.JSONField()),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='versions', to='dataplane.dataset')),
            ],
            options={
                'ordering': ('dataset', '-version'),
            },
        ),
        migrations.AddField(
            model_name='dataset',
            name='current_version',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='dataplane.datasetversion'),
        ),
        migrations.CreateModel(
            name='Passage',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveIntegerField()),
                ('document', models.CharField(max_length=200)),
                ('title', models.CharField(max_length=300)),
                ('heading', models.CharField(blank=True, max_length=300)),
                ('text', models.TextField()),
                ('effective', models.DateField(blank=True, null=True)),
                ('status', models.CharField(blank=True, max_length=40)),
                ('topics', models.CharField(blank=True, max_length=300)),
                ('embedding', pgvector.django.vector.VectorField(dimensions=256)),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='passages', to='dataplane.datasetversion')),
            ],
        ),
        migrations.CreateModel(
            name='Refresh',
            fields=[
                ('id', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('key', models.CharField(max_length=100)),
                ('parameters', models.JSONField()),
                ('status', models.CharField(choices=[('scheduled', 'Scheduled'), ('running', 'Running'), ('published', 'Published'), ('unchanged', 'Unchanged'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], db_default='scheduled', max_length=10)),
                ('error', models.TextField(blank=True, db_default='')),
                ('prefect_flow_run_id', models.CharField(blank=True, db_default='', max_length=36)),
                ('created_at', models.DateTimeField(db_default=console.clock.DatabaseNow())),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('send_due_at', models.DateTimeField(db_default=console.clock.DatabaseNow())),
                ('send_attempts', models.PositiveIntegerField(db_default=0)),
                ('send_error', models.TextField(blank=True, db_default='')),
                ('restarts', models.PositiveIntegerField(db_default=0)),
                ('dataset', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='refreshes', to='dataplane.dataset')),
                ('requested_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='refreshes', to='dataplane.datasetversion')),
            ],
        ),
        migrations.AddConstraint(
            model_name='datasetversion',
            constraint=models.UniqueConstraint(fields=('dataset', 'version'), name='one_version_per_number'),
        ),
        migrations.AddConstraint(
            model_name='datasetversion',
            constraint=models.UniqueConstraint(fields=('dataset', 'digest'), name='one_version_per_content'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='datasetversion',
            trigger=pgtrigger.compiler.Trigger(name='versions_are_immutable', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='68d0956eeafbf04d38b86fade6f73dd2abdb6087', operation='UPDATE OR DELETE', pgid='pgtrigger_versions_are_immutable_dfb01', table='dataplane_datasetversion', when='BEFORE')),
        ),
        migrations.AddConstraint(
            model_name='passage',
            constraint=models.UniqueConstraint(fields=('version', 'position'), name='one_passage_per_position'),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='passage',
            trigger=pgtrigger.compiler.Trigger(name='passages_are_immutable', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;", hash='801acc99cfe6813bca9d3c6b12941a7598df86eb', operation='UPDATE OR DELETE', pgid='pgtrigger_passages_are_immutable_569d7', table='dataplane_passage', when='BEFORE')),
        ),
        migrations.AddIndex(
            model_name='refresh',
            index=models.Index(models.F('created_at'), condition=models.Q(('status__in', ('scheduled', 'running'))), name='refresh_open'),
        ),
        migrations.AddIndex(
            model_name='refresh',
            index=models.Index(models.F('prefect_flow_run_id'), name='refresh_flow_run'),
        ),
        migrations.AddConstraint(
            model_name='refresh',
            constraint=models.UniqueConstraint(fields=('dataset', 'key'), name='one_refresh_per_key'),
        ),
    ]
