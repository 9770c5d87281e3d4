"""The record: a chain of entries, and its heads kept outside."""
