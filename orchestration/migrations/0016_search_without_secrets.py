from __future__ import annotations

from django.db import migrations

# A search that finds a run by a hidden value tells the value, one guess after the other. The same rule as
# `orchestration.state.secrets.Hidden`: a name hides what stands under it at any depth, "a.b" only b inside of a;
# positions in lists do not count.
WITHOUT = """
CREATE FUNCTION signalbox_without(given jsonb, names text[], path text DEFAULT '') RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM unnest(names) AS name WHERE right(path, length(name) + 1) = '.' || name) THEN
    RETURN 'null'::jsonb;
  ELSIF jsonb_typeof(given) = 'object' THEN
    RETURN (SELECT coalesce(jsonb_object_agg(key, signalbox_without(value, names, path || '.' || key)), '{}'::jsonb)
            FROM jsonb_each(given));
  ELSIF jsonb_typeof(given) = 'array' THEN
    RETURN (SELECT coalesce(jsonb_agg(signalbox_without(value, names, path) ORDER BY place), '[]'::jsonb)
            FROM jsonb_array_elements(given) WITH ORDINALITY AS each_one(value, place));
  END IF;
  RETURN given;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [("orchestration", "0015_views_of_runs")]

    operations = [migrations.RunSQL(WITHOUT, "DROP FUNCTION signalbox_without(jsonb, text[], text)")]
