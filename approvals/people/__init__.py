"""Who somebody is, what they may decide, and what they approve in advance."""
