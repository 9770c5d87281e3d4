"""The record as a page."""
