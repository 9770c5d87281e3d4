from __future__ import annotations

from django.db import migrations

# Rows from before: what was shown is what was decided, and the proposal had one version.
FILL = """
ALTER TABLE approvals_decision DISABLE TRIGGER USER;
UPDATE approvals_decision SET for_version = version, for_digest = digest;
ALTER TABLE approvals_decision ENABLE TRIGGER USER;
UPDATE approvals_approval SET tool_risk = risk;
INSERT INTO approvals_proposalversion (approval_id, version, reason, canonical, digest, summary, detail, at)
SELECT id, version, 'proposed', canonical, digest, summary, '', opened_at FROM approvals_approval;
"""


class Migration(migrations.Migration):
    # A migration of its own: indexes cannot be made in the transaction in which rows were written.

    dependencies = [
        ('approvals', '0002_versions_terms_and_teams'),
    ]

    operations = [
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
