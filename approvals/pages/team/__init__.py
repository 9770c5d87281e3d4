"""Claims, comments, delegations, what is approved in advance."""
