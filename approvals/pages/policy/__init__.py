"""The policy as pages."""
