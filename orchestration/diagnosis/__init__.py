"""Why a run stands where it stands, in one sentence: the cause, since when, who can do something, and what.

`facts` gathers what the rows say, `look` what Temporal says. `table` has one row for each cause; the first that fits is
told, so the table's order says what blocks what. `diagnosing` puts the three together, for a page or for many runs at
once; `standing` keeps the cause of those that need somebody in their rows, for the stuck list.
"""
