"""Forms drawn from a JSON Schema, checked, and kept when they could not be taken."""
