"""Signals, queries and updates that an operator sends to a workflow, by hand and on the record."""
