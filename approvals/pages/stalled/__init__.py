"""Decided, did not take effect."""
