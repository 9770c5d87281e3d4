from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import console.clock

#: Tables that can be made again from others. The app's role makes and drops them: see settings.SCHEMAS_OF_THE_APP.
SCHEMA = "CREATE SCHEMA IF NOT EXISTS signalbox_index"

#: The nearest rows by one index. Only an index scan is left to the planner; what it cannot answer well is not asked
#: here. Iterative: a scan that has too few rows goes on.
BY_INDEX = """
CREATE FUNCTION signalbox_nearest_by(index_table text, wanted vector, most integer)
RETURNS TABLE (place integer, distance double precision)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('hnsw.ef_search', greatest(100, least(1000, 2 * most))::text, true);
    IF current_setting('hnsw.iterative_scan', true) IS NOT NULL THEN  -- since pgvector 0.8
        PERFORM set_config('hnsw.iterative_scan', 'strict_order', true);
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT position, (embedding <=> $1)::float8 FROM signalbox_index.%I ORDER BY embedding <=> $1 LIMIT $2',
        index_table
    ) USING wanted, most;
END
$$
"""

#: The nearest rows of one version: by its index, if one is in service, else by an exact scan. One statement sees one
#: of the two, never a half-built one. An index dropped between the look and the search is as none. HNSW knows no
#: vector of length 0, and is made for the first rows, not for all of them.
NEAREST = """
CREATE FUNCTION signalbox_nearest(of_version bigint, wanted vector, most integer, exactly boolean DEFAULT false)
RETURNS TABLE (place integer, distance double precision, by_index boolean)
LANGUAGE plpgsql AS $$
DECLARE
    index_table text;
BEGIN
    IF NOT exactly AND most <= 200 AND vector_norm(wanted) > 0 THEN
        SELECT i.relation INTO index_table FROM dataplane_searchindex i
        WHERE i.version_id = of_version AND i.state = 'serving';
    END IF;
    IF index_table IS NOT NULL THEN
        BEGIN
            RETURN QUERY SELECT n.place, n.distance, true FROM signalbox_nearest_by(index_table, wanted, most) n;
            RETURN;
        EXCEPTION WHEN undefined_table THEN
            NULL;
        END;
    END IF;
    RETURN QUERY SELECT p.position, (p.embedding <=> wanted)::float8, false FROM dataplane_passage p
    WHERE p.version_id = of_version ORDER BY p.embedding <=> wanted, p.position LIMIT most;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ("dataplane", "0007_nothing_to_publish"),
    ]

    operations = [
        migrations.RunSQL(SCHEMA, "DROP SCHEMA signalbox_index CASCADE"),
        migrations.CreateModel(
            name="SearchIndex",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("relation", models.CharField(max_length=63, unique=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("building", "Building"),
                            ("checked", "Checked"),
                            ("serving", "Serving"),
                            ("replaced", "Replaced"),
                            ("refused", "Refused"),
                            ("dropped", "Dropped"),
                        ],
                        max_length=10,
                    ),
                ),
                ("rows", models.PositiveIntegerField()),
                ("links", models.PositiveIntegerField()),
                ("effort", models.PositiveIntegerField()),
                ("recall", models.FloatField(blank=True, null=True)),
                ("questions", models.PositiveIntegerField(blank=True, null=True)),
                ("note", models.TextField(blank=True, db_default="")),
                ("prefect_flow_run_id", models.CharField(max_length=36)),
                ("begun_at", models.DateTimeField(db_default=console.clock.DatabaseNow())),
                ("served_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="search_indexes",
                        to="dataplane.datasetversion",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "serving")), fields=("version",), name="one_index_in_service"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SearchScore",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "method",
                    models.CharField(
                        choices=[("exact", "Exact"), ("index", "Index"), ("adapter", "Adapter")], max_length=10
                    ),
                ),
                ("questions_digest", models.CharField(max_length=64)),
                ("questions", models.PositiveIntegerField()),
                ("found", models.PositiveIntegerField()),
                ("mean_reciprocal_rank", models.FloatField()),
                ("missed", models.JSONField()),
                ("measured_at", models.DateTimeField(db_default=console.clock.DatabaseNow())),
                (
                    "version",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="search_scores",
                        to="dataplane.datasetversion",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("version", "method", "questions_digest"), name="one_score_per_questions"
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="refresh",
            name="is_dry_run",
            field=models.BooleanField(db_default=False),
        ),
        migrations.AddField(
            model_name="refresh",
            name="preview",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.RunSQL(BY_INDEX, "DROP FUNCTION signalbox_nearest_by(text, vector, integer)"),
        migrations.RunSQL(NEAREST, "DROP FUNCTION signalbox_nearest(bigint, vector, integer, boolean)"),
    ]
