"""The state of a run's graph as pages and programs see it: steps, values, differences, and the graph itself."""
