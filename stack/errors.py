"""What can keep the stack from starting.

    StackError
        AlreadyRunning      another `up` owns the state folder
        PortTaken           the web page's port belongs to another program
        NoTemporalServer    none of the ways to get a Temporal server worked
        PartFailed          a part did not become ready, or a set-up step failed
        Stopped             the stack was told to stop meanwhile

The message of each is a sentence for the person at the terminal.
"""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot start; the message says why and what to do."""


class AlreadyRunning(StackError):
    """Another `up` owns the state folder."""


class PortTaken(StackError):
    """The web page's port belongs to another program."""


class NoTemporalServer(StackError):
    """None of the ways to get a Temporal server worked."""


class PartFailed(StackError):
    """A part did not become ready, or a set-up step failed."""


class Stopped(StackError):
    """The stack was told to stop while this was going on."""
