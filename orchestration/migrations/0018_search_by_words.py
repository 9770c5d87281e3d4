from __future__ import annotations

import django.contrib.postgres.indexes
import django.contrib.postgres.search
from django.db import migrations, models

# The same words as the search over requests has: of the id, the agent, and the values of the input. 16,000 letters:
# PostgreSQL counts places of words up to 16,383.
RUN_WORDS = r"""
CREATE FUNCTION signalbox_run_words(id text, agent text, input jsonb) RETURNS tsvector
IMMUTABLE STRICT PARALLEL SAFE
RETURN (
  SELECT to_tsvector('simple'::regconfig, words || ' ' || coalesce((
    SELECT string_agg(number[1], ' ')
    FROM regexp_matches(words, '[[:alpha:]]([0-9]{3,})(?![[:alnum:]])', 'g') AS number), ''))
  FROM signalbox_words(id || ' ' || agent || ' ' ||
    regexp_replace(regexp_replace(left(input::text, 16000), '\\(u[0-9a-f]{4}|.)', ' ', 'g'), '"[^"]*":', ' ', 'g')
  ) AS words
);
"""


# At most so many, in no order, always by the index: the planner cannot know how rare a word is, and when it takes a
# rare one for a common one it walks through all runs.
RUNS_WITH = r"""
CREATE FUNCTION signalbox_runs_with(said text, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
  SELECT id FROM orchestration_run WHERE search_words @@ signalbox_search_query(said) LIMIT most
$$;
"""


class Migration(migrations.Migration):
    """Makes the words of every run: the table is rewritten once and locked meanwhile."""

    dependencies = [
        ("orchestration", "0017_thinking_again"),
        ("approvals", "0018_links_by_two"),
    ]

    operations = [
        migrations.RunSQL(RUN_WORDS, "DROP FUNCTION signalbox_run_words(text, text, jsonb)"),
        migrations.AddField(
            model_name="run",
            name="search_words",
            field=models.GeneratedField(
                db_persist=True,
                expression=models.Func("id", "agent", "input", function="signalbox_run_words"),
                output_field=django.contrib.postgres.search.SearchVectorField(),
            ),
        ),
        migrations.AddIndex(
            model_name="run",
            index=django.contrib.postgres.indexes.GinIndex(
                fields=["search_words"], gin_pending_list_limit=256, name="run_words"
            ),
        ),
        migrations.RunSQL(RUNS_WITH, "DROP FUNCTION signalbox_runs_with(text, integer)"),
        migrations.AddIndex(
            model_name="run",
            index=models.Index(fields=["agent", "-created_at", "-id"], name="run_by_agent"),
        ),
    ]
