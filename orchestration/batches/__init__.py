"""Batches: one agent's runs for a table of inputs, thousands of them, fed while there is room.

`tables` reads a table, `starting` checks and keeps it, `feeding` makes runs of it, `acting` pauses, cancels and
tries again, `reading` is what pages and the API show. Nothing waits for a run: an item ends with its run's own row.
"""
