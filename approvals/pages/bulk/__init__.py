"""Several requests on one page."""
