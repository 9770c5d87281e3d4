from __future__ import annotations

import django.contrib.postgres.indexes
import django.contrib.postgres.search
from django.db import migrations, models

# Letters of scripts that put no spaces between words (Thai, Lao, Myanmar, Khmer, Japanese, Chinese), and Korean, which
# glues its particles to them; and the signs that stand on or behind such a letter.
LETTERS = (
    r"\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"
    r"\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u312f"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
SIGNS = r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u17dd"
# Accents, vowel points of Hebrew and Arabic, soft hyphens and what else has no width.
DROPPED = r"\u00ad\u0300-\u036f\u0591-\u05bd\u0640\u064b-\u065f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"

# One letter for all its forms: case, accents, full and half width.
FOLDED = rf"""
CREATE FUNCTION signalbox_folded(said text) RETURNS text
IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN octet_length(said) = char_length(said) THEN lower(said) ELSE
  translate(replace(replace(replace(
    lower(normalize(regexp_replace(normalize(said, NFKD), '[{DROPPED}]+', '', 'g'), NFC)),
    'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'łøđıς', 'lodiσ')
END;
"""
# Words between spaces. A row of letters of such a script becomes its pairs and its last letter, so that what begins
# anywhere in it is found: 日本語 is "日本|本語|語".
WORDS = rf"""
CREATE OR REPLACE FUNCTION signalbox_words(said text) RETURNS text
IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN octet_length(said) = char_length(said) THEN regexp_replace(lower(said), '[^[:alnum:]]+', ' ', 'g') ELSE
  regexp_replace(regexp_replace(regexp_replace(
    regexp_replace(signalbox_folded(said), '[^[:alnum:]{LETTERS}{SIGNS}]+', ' ', 'g'),
    '([{LETTERS}{SIGNS}](?=[^{LETTERS}{SIGNS} ])|[^{LETTERS}{SIGNS} ](?=[{LETTERS}]))', '\1 ', 'g'),
    '([{LETTERS}][{SIGNS}]*)', '\1|\1', 'g'),
    '(^| )[{LETTERS}][{SIGNS}]*\|', '\1', 'g')
END;
"""
OLD_WORDS = r"""
CREATE OR REPLACE FUNCTION signalbox_words(said text) RETURNS text
IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(lower(said), '[^[:alnum:]]+', ' ', 'g');
"""
# Of the canonical JSON the values only: first escapes go, then what stands before a colon. A number at the end of a
# word (ORD20240042) is a word of its own besides. 16,000 letters: PostgreSQL counts places of words up to 16,383.
SEARCH_WORDS = r"""
CREATE FUNCTION signalbox_search_words(
  id text, external_id text, tool text, agent text, run_id text, summary text, canonical bytea
)
RETURNS tsvector
IMMUTABLE STRICT PARALLEL SAFE
RETURN (
  SELECT to_tsvector('simple'::regconfig, words || ' ' || coalesce((
    SELECT string_agg(number[1], ' ')
    FROM regexp_matches(words, '[[:alpha:]]([0-9]{3,})(?![[:alnum:]])', 'g') AS number), ''))
  FROM signalbox_words(
    id || ' ' || tool || ' ' || agent || ' ' || run_id || ' ' || external_id || ' ' || summary || ' ' ||
    regexp_replace(regexp_replace(
      left(convert_from(canonical, 'UTF8'), 16000), '\\(u[0-9a-f]{4}|.)', ' ', 'g'), '"[^"]*":', ' ', 'g')
  ) AS words
);
"""
OLD_SEARCH_WORDS = r"""
CREATE FUNCTION signalbox_search_words(id text, tool text, agent text, run_id text, summary text, canonical bytea)
RETURNS tsvector
IMMUTABLE STRICT PARALLEL SAFE
RETURN to_tsvector('simple'::regconfig, signalbox_words(
  id || ' ' || tool || ' ' || agent || ' ' || run_id || ' ' || summary || ' ' || regexp_replace(regexp_replace(
    left(convert_from(canonical, 'UTF8'), 20000), '\\(u[0-9a-f]{4}|.)', ' ', 'g'), '"[^"]*":', ' ', 'g')));
"""
# Each word may be a beginning, all have to be there, and what was written together stands together. The last letter
# of a row of several is already the beginning of a pair, or its end: alone it would ask that the row ends there.
SEARCH_QUERY = rf"""
CREATE OR REPLACE FUNCTION signalbox_search_query(said text) RETURNS tsquery
IMMUTABLE STRICT PARALLEL SAFE
RETURN (
  SELECT string_agg('(' || phrase || ':*)', ' & ')::tsquery
  FROM (
    SELECT phraseto_tsquery('simple'::regconfig,
      regexp_replace(rtrim(signalbox_words(term)), '\|[{LETTERS}{SIGNS}]+$', ''))::text AS phrase
    FROM regexp_split_to_table(said, '\s+') AS term
  ) AS phrases
  WHERE phrase <> ''
);
"""
OLD_SEARCH_QUERY = r"""
CREATE OR REPLACE FUNCTION signalbox_search_query(said text) RETURNS tsquery
IMMUTABLE STRICT PARALLEL SAFE
RETURN (
  SELECT string_agg('(' || phrase || ':*)', ' & ')::tsquery
  FROM (
    SELECT phraseto_tsquery('simple'::regconfig, signalbox_words(term))::text AS phrase
    FROM regexp_split_to_table(said, '\s+') AS term
  ) AS phrases
  WHERE phrase <> ''
);
"""
DROP_OLD = "DROP FUNCTION signalbox_search_words(text, text, text, text, text, bytea)"
DROP_NEW = "DROP FUNCTION signalbox_search_words(text, text, text, text, text, text, bytea)"


class Migration(migrations.Migration):
    """Makes the words of every row anew: the table is rewritten once and locked meanwhile."""

    dependencies = [("approvals", "0012_what_one_account_asked_for")]

    operations = [
        migrations.RemoveIndex(model_name="approval", name="approval_words"),
        migrations.RemoveField(model_name="approval", name="search_words"),
        migrations.RunSQL(DROP_OLD, OLD_SEARCH_WORDS),
        migrations.RunSQL(FOLDED, "DROP FUNCTION signalbox_folded(text)"),
        migrations.RunSQL(WORDS, OLD_WORDS),
        migrations.RunSQL(SEARCH_WORDS, DROP_NEW),
        migrations.RunSQL(SEARCH_QUERY, OLD_SEARCH_QUERY),
        migrations.AddField(
            model_name="approval",
            name="search_words",
            field=models.GeneratedField(
                db_persist=True,
                expression=models.Func(
                    "id",
                    "external_id",
                    "tool",
                    "agent",
                    "run_id",
                    "summary",
                    "canonical",
                    function="signalbox_search_words",
                ),
                output_field=django.contrib.postgres.search.SearchVectorField(),
            ),
        ),
        migrations.AddIndex(
            model_name="approval",
            index=django.contrib.postgres.indexes.GinIndex(
                fastupdate=False, fields=["search_words"], name="approval_words"
            ),
        ),
    ]
