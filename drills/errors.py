"""What can go wrong in a drill, other than the product breaking a promise.

DrillError
  NotInTime     something that had to come did not come before its deadline; counts as a violation
  NotStruck     the fault did not fire, so the trial shows nothing; counts as a violation too
"""

from __future__ import annotations


class DrillError(Exception):
    """A trial could not be brought to its end."""


class NotInTime(DrillError):
    """Something did not come before its deadline."""


class NotStruck(DrillError):
    """The fault did not fire."""
