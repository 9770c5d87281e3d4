from __future__ import annotations

from django.db import migrations

#: What the data plane may read of decisions, to make evaluation sets: the contract between the two, in one place.
#: Actions that a person decided, in order of decision; never seeded ones. `released`: names of tools, no others are
#: given. A function rather than a view: it does not hold the tables' columns in their types.
MATERIAL = """
CREATE FUNCTION signalbox_decided_material(released text[])
RETURNS TABLE (
    approval_id text, run_id text, agent text, tool text, risk text, summary text, agent_words text,
    proposed text, proposed_digest text, dataset_versions jsonb,
    verdict text, note text, edited_arguments jsonb, answer jsonb, decided_at timestamptz
) LANGUAGE sql STABLE AS $$
    SELECT a.id, a.run_id, a.agent, a.tool, a.tool_risk, a.summary, a.agent_words,
        convert_from(v.canonical, 'UTF8'), v.digest, a.dataset_versions,
        d.verdict, d.note, d.edited_arguments, d.answer, d.at
    FROM approvals_approval a
    JOIN approvals_proposalversion v ON v.approval_id = a.id AND v.version = 1
    JOIN LATERAL (
        SELECT * FROM approvals_decision WHERE approval_id = a.id AND source = '' ORDER BY number DESC LIMIT 1
    ) d ON true
    WHERE a.status = 'decided' AND a.kind = 'action' AND NOT a.is_seeded AND a.tool = ANY (released)
    ORDER BY d.at, a.id
$$
"""


class Migration(migrations.Migration):
    dependencies = [("approvals", "0016_forms_of_asking")]

    operations = [migrations.RunSQL(MATERIAL, "DROP FUNCTION signalbox_decided_material(text[])")]
