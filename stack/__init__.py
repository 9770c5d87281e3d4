"""The embedded stack: find or install PostgreSQL, Temporal and Prefect, start all parts, restart what dies.

    ports        free ports that stay the same over restarts
    processes    one operating-system process that is known to be ours, also after a crash of `up`
    services     the shape that every part shares: prepare, start, wait until ready, stop
    postgres temporal prefect    the engines; temporal_binary finds or builds the Temporal server
    console_parts                our own processes: web, worker, relay, flows, shop
    state        the state folder: its lock, stack.json, and what came from outside
    supervisor   all of it together; `manage.py up` is a thin command around it

Nothing here imports Django, so that the drills, the benchmarks and the tests can use it too.
"""

from __future__ import annotations
