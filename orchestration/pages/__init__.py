"""The pages of runs: a file for each, its fragments beside it."""
