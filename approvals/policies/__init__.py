"""Who may decide what, and by when: a list of rules in the database, and the terms it gives for one proposal.

`rules` says what a rule is, `conditions` how it looks at arguments, `policy` how a list of them is asked, `terms` what
it gives, `words` how rules are read aloud. `services.changing_policy` changes it, `reading.policy_preview` says what a
change would mean.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import lru_cache

from django.db import DatabaseError, connection

from approvals.models import PolicyVersion
from approvals.policies import shipped
from approvals.policies.policy import Policy
from approvals.policies.terms import FAIL_SAFE, Facts, Terms

__all__ = ["active_policy", "terms_for"]

logger = logging.getLogger(__name__)


def terms_for(facts: Facts) -> Terms:
    """Return the terms for one proposal under the policy that is active now. One query.

    Where no rule can be used an admin decides (`terms.FAIL_SAFE`), with the reason in words; so does whatever goes
    wrong in here. Only a database that does not answer raises: then the caller's change does not happen either.
    """
    try:
        return active_policy().terms_for(facts)
    except DatabaseError:
        raise
    except Exception:
        # Nothing that breaks in a policy may let a proposal through, or keep it from people.
        logger.exception("The policy broke for the tool %s of %s", facts.tool, facts.agent)
        return replace(FAIL_SAFE, reason="The policy broke; the log of the server says how.")


# By hand, for it stands in the path of every click. The active one comes first.
_ACTIVE = """
SELECT state, version, rules::text, calendars::text FROM approvals_policyversion
WHERE state IN ('active', 'replaced') ORDER BY state, version DESC LIMIT 1
"""


def active_policy() -> Policy:
    """Return the policy that is active now: the active version, or the shipped rules while there never was one."""
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVE)
        found = cursor.fetchone()
    if found is None:
        return _shipped()
    state, version, rules, calendars = found
    if state != PolicyVersion.State.ACTIVE:
        return Policy(f"after {version}", None, {})  # an active one is missing: all of it fails safe
    return _compiled(version, rules, calendars)


@lru_cache(maxsize=16)
def _compiled(version: int, rules: str, calendars: str) -> Policy:
    """Compile once. The text is part of the key, for a restored database may give a number a second meaning."""
    return Policy(str(version), json.loads(rules), json.loads(calendars))


@lru_cache(maxsize=1)
def _shipped() -> Policy:
    return Policy(shipped.LABEL, shipped.RULES, shipped.CALENDARS)
