"""How open pages hear that something changed."""
