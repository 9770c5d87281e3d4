"""Every advisory lock that has a number of its own. PostgreSQL does not see when two purposes share one."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class AdvisoryLock(IntEnum):
    """The key of `pg_advisory_lock`. Never give a number to another purpose: old processes may still hold it."""

    AUDIT_CHAIN = 7_310_001  # one entry after the other, until its transaction commits
    CHECKPOINT_TABLES = 7_310_002  # LangGraph's migrations, once at a time
    APP_ROLE = 7_310_003  # the application's role is made or repaired
    POLICY_CHANGE = 7_310_004  # one change of the policy at a time
    IN_FLIGHT = 7_310_005  # with the account's id as second key: what it has under way is counted
