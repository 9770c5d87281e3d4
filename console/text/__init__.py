"""Texts, exact JSON and their differences. Knows no app, no request and no database."""
