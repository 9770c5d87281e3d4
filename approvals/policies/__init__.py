"""Who may decide what, and by when: the rules that are shipped, and the terms they give for one proposal.

Nothing here raises for a proposal: where no rule can be used, an admin decides (`terms.FAIL_SAFE`).
"""

from __future__ import annotations

from dataclasses import replace

from approvals.terms import FAIL_SAFE, Facts, Terms

SHIPPED = "shipped/1"


def terms_for(facts: Facts) -> Terms:
    """Return the terms for one proposal under the policy that is active now."""
    if not facts.is_known:
        return replace(FAIL_SAFE, policy_version=SHIPPED, reason=f"No rule names the tool {facts.tool}.")
    if facts.kind == "outcome":
        return Terms(
            rule="outcome questions",
            policy_version=SHIPPED,
            verdicts=("approve", "reject"),
            may_bulk=False,
            risk=facts.risk,
        )
    return Terms(rule="everything", policy_version=SHIPPED, risk=facts.risk)
