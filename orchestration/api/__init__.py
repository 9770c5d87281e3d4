"""The JSON API of agents and runs: a file for each subject, a router in each."""
