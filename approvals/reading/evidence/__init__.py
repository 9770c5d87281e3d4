"""One archive of all that is known of a run or a request, which anybody can check."""
