"""Failures, injected on purpose into a stack of their own; `manage.py drill` runs them.

Everything is seen from outside: the JSON API with people's tokens, the shop's HTTP, SQL, Temporal's client, mail
files, signals to processes. Nothing of approvals, orchestration or dataplane is imported here, but for
the fickle agent and those whose code changes, which run inside the stack.

Each fault goes: steady state, strike, proof that it struck, recovery, judgement. An operation whose answer was lost
is `unknown` in the history, never `failed`. The fault points in our processes are listed in `console.faults`.
"""
