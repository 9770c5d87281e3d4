from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import console.clock

#: What the data plane may read of open requests and write about them: the whole contract. Seeded requests are among
#: them, for they must look like all others.
FUNCTIONS = """
CREATE FUNCTION signalbox_open_material(by_model integer, of_tools text[], most integer)
RETURNS TABLE (
    approval_id text, version integer, tool text, risk text, summary text, agent_words text, proposed text
) LANGUAGE sql STABLE AS $$
    SELECT a.id, a.version, a.tool, a.tool_risk, a.summary, a.agent_words, convert_from(a.canonical, 'UTF8')
    FROM approvals_approval a LEFT JOIN approvals_outlook o ON o.approval_id = a.id
    WHERE a.status = 'pending' AND a.kind = 'action' AND a.tool = ANY (of_tools)
      AND (o.approval_id IS NULL OR o.version <> a.version OR o.model_version <> by_model)
    ORDER BY a.due_at, a.id LIMIT most
$$;
CREATE FUNCTION signalbox_note_outlook(about text, of_version integer, told integer, by_model integer)
RETURNS boolean LANGUAGE sql AS $$
    WITH written AS (
        INSERT INTO approvals_outlook (approval_id, version, percent, model_version)
        SELECT id, of_version, told, by_model FROM approvals_approval
            WHERE id = about AND version = of_version AND status = 'pending'
        ON CONFLICT (approval_id) DO UPDATE SET version = excluded.version, percent = excluded.percent,
            model_version = excluded.model_version, at = signalbox_now()
        RETURNING 1
    )
    SELECT EXISTS (SELECT 1 FROM written)
$$
"""
AWAY = """
DROP FUNCTION signalbox_note_outlook(text, integer, integer, integer);
DROP FUNCTION signalbox_open_material(integer, text[], integer)
"""


class Migration(migrations.Migration):

    dependencies = [("approvals", "0018_links_by_two")]

    operations = [
        migrations.CreateModel(
            name="Outlook",
            fields=[
                (
                    "approval",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="outlook",
                        serialize=False,
                        to="approvals.approval",
                    ),
                ),
                ("version", models.PositiveIntegerField()),
                ("percent", models.PositiveSmallIntegerField()),
                ("model_version", models.PositiveIntegerField()),
                ("at", models.DateTimeField(db_default=console.clock.DatabaseNow())),
            ],
        ),
        migrations.RunSQL(FUNCTIONS, AWAY),
    ]
