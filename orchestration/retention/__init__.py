"""What is kept of runs that are over: what their nodes wrote on the way goes first, whole threads by policy alone."""
