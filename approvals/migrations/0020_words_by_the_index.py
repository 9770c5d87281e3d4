from __future__ import annotations

from django.db import migrations

# At most so many, in no order, always by the index: the planner cannot know how rare a word is, and when it takes a
# rare one for a common one it walks through all requests.
REQUESTS_WITH = r"""
CREATE FUNCTION signalbox_requests_with(said text, most integer) RETURNS SETOF text
LANGUAGE sql STABLE SET enable_seqscan = off AS $$
  SELECT id FROM approvals_approval WHERE search_words @@ signalbox_search_query(said) LIMIT most
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0019_outlooks")]

    operations = [migrations.RunSQL(REQUESTS_WITH, "DROP FUNCTION signalbox_requests_with(text, integer)")]
