"""The Data pages, a file for each subject; the overview, versions and flow runs stand in `dataplane.views`."""
